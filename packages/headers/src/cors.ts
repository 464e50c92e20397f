import fastifyCors from '@fastify/cors'
import { declareRule } from '@marty/core'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { optionInvalid, type CorsOptions } from './options.js'

/**
 * Allows exact origins through `@fastify/cors`, which also answers preflights. Returns a function that adds the CORS
 * headers to a request refused before that plugin ran: without them, a page could not even read the status 401 or 429.
 */
export async function registerCors (
  fastify: FastifyInstance,
  options: Required<CorsOptions>
): Promise<(request: FastifyRequest, reply: FastifyReply) => void> {
  const allowed = new Set(options.origins)
  const isAllowed = (origin: string | undefined): origin is string => origin !== undefined && allowed.has(origin)

  fastify.addHook('onRoute', ({ config, url }) => {
    const { cors } = (config ?? {}) as { cors?: unknown }
    if (cors !== undefined && cors !== false) {
      const problem = 'must be false or left out: only the options of the plugin decide which origins are allowed'
      throw optionInvalid('config.cors', problem, url)
    }
  })
  // Browsers send preflights without credentials, so the preflight route must be public.
  declareRule(fastify, 'OPTIONS', '*', { public: true })
  await fastify.register(fastifyCors, {
    origin: (origin, decide) => {
      decide(null, isAllowed(origin) ? origin : false)
    },
    methods: [...options.methods],
    allowedHeaders: [...options.headers],
    exposedHeaders: [...options.exposedHeaders],
    credentials: options.credentials,
    maxAge: options.maxAgeSeconds
  })

  return (request, reply) => {
    if (!variesByOrigin(reply.getHeader('vary'))) {
      reply.header('vary', [reply.getHeader('vary'), 'Origin'].flat().filter(Boolean).join(', '))
    }
    const { origin } = request.headers
    if (!isAllowed(origin) || reply.hasHeader('access-control-allow-origin')) return
    if ((request.routeOptions.config as { cors?: unknown }).cors === false) return
    reply.header('access-control-allow-origin', origin)
    reply.header('access-control-expose-headers', options.exposedHeaders.join(', '))
    if (options.credentials) reply.header('access-control-allow-credentials', 'true')
  }
}

function variesByOrigin (vary: number | string | string[] | undefined): boolean {
  return String(vary ?? '').toLowerCase().split(',').some(field => field.trim() === 'origin' || field.trim() === '*')
}
