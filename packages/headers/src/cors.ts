import fastifyCors from '@fastify/cors'
import { declareRule } from '@marty/core'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { PresentHeader } from './late-headers.js'
import { optionInvalid, type CorsOptions } from './options.js'

/** Returns the CORS headers that a response lacks, as names and values in turn. */
export type CompleteCors = (request: FastifyRequest, present: PresentHeader) => string[]

/**
 * Allows exact origins through `@fastify/cors`, which also answers preflights. Returns a function for
 * requests that were refused before that plugin ran: without CORS headers, a page could not read the status 401 or 429.
 */
export async function registerCors (
  fastify: FastifyInstance,
  options: Required<CorsOptions>
): Promise<CompleteCors> {
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

  return (request, present) => {
    const vary = present('vary')
    const decided = variesByOrigin(vary) ? [] : ['vary', [vary, 'Origin'].flat().filter(Boolean).join(', ')]
    const { origin } = request.headers
    if (!isAllowed(origin) || present('access-control-allow-origin') !== undefined) return decided
    if ((request.routeOptions.config as { cors?: unknown }).cors === false) return decided
    decided.push('access-control-allow-origin', origin)
    decided.push('access-control-expose-headers', options.exposedHeaders.join(', '))
    if (options.credentials) decided.push('access-control-allow-credentials', 'true')
    return decided
  }
}

function variesByOrigin (vary: unknown): boolean {
  if (vary === 'Origin') return true
  return String(vary ?? '').toLowerCase().split(',').some(field => field.trim() === 'origin' || field.trim() === '*')
}
