import './augment.js'
import { setClientErrorHandler, setStandardHeaders, useGuard } from '@marty/core'
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { registerCors, type CompleteCors } from './cors.js'
import { createHeaderSet, type HeaderSet } from './header-set.js'
import { createHelmetHeaders } from './helmet.js'
import { serveHelmetRoutes } from './helmet-routes.js'
import { addLateHeaders, hasLateHeaders, type PresentHeader } from './late-headers.js'
import { resolveOptions, resolveOverrides, type HeaderOverrides, type HeadersOptions } from './options.js'

async function plugin (fastify: FastifyInstance, options: HeadersOptions): Promise<void> {
  const resolved = resolveOptions(options)
  const headersOf = await createHelmetHeaders(fastify)
  const standard = createHeaderSet(headersOf, resolved)
  const special = new WeakMap<HeaderOverrides, HeaderSet>()
  let completeCors: CompleteCors | null = null

  const setFor = (overrides: HeaderOverrides | undefined, url: string): HeaderSet => {
    if (overrides === undefined) return standard
    let set = special.get(overrides)
    if (set === undefined) {
      set = createHeaderSet(headersOf, resolved, { url, ...resolveOverrides(url, overrides) })
      special.set(overrides, set)
    }
    return set
  }

  const add = (request: FastifyRequest, reply: FastifyReply): void => {
    const set = setFor(request.routeOptions.config.headers, request.routeOptions.url ?? '')
    // They belong to the raw response: a handler that takes over the response sends them too, and can override them.
    const fixed = request.protocol === 'https' ? set.secure : set.plain
    addLateHeaders(reply.raw, fixed, present => headersByOutcome(request, present))
  }
  const headersByOutcome = (request: FastifyRequest, present: PresentHeader): string[] => {
    const decided = completeCors === null ? [] : completeCors(request, present)
    if (isPersonal(request) && present('cache-control') === undefined) decided.push('cache-control', 'no-store')
    return decided
  }

  const own = new Set<string>()
  fastify.addHook('onRoute', route => {
    setFor(route.config?.headers, route.url)
    const { headers, helmet = (route as { readonly helmet?: unknown }).helmet } = { ...route.config } as OwnHeaders
    if (headers !== undefined || helmet !== undefined) own.add(`${[route.method].flat().join(',')} ${route.url}`)
  })
  fastify.addHook('onRequest', (request, reply, done) => {
    add(request, reply)
    done()
  })
  useGuard(fastify).addCheck({
    name: '@marty/headers',
    stage: 'admit',
    keys: [],
    compile: () => null,
    describe: ({ name, transport }) => (transport === 'http' ? { headers: own.has(name) ? 'own' : 'standard' } : {})
  })
  // For requests that never reach a hook: malformed URLs, and bytes that are not HTTP.
  setStandardHeaders(fastify, isSecure => (isSecure ? standard.secure : standard.plain).list)
  setClientErrorHandler(fastify)
  await serveHelmetRoutes(fastify, resolved, standard, headersOf)
  if (resolved.cors !== undefined) completeCors = await registerCors(fastify, resolved.cors)

  // For requests that an earlier hook refused.
  fastify.addHook('onSend', (request, reply, payload, done) => {
    if (!hasLateHeaders(reply.raw)) add(request, reply)
    done(null, payload)
  })
}

interface OwnHeaders { readonly headers?: unknown, readonly helmet?: unknown }

/** `principal` is still null when an earlier hook refused the request before the guard ran. */
function isPersonal (request: FastifyRequest): boolean {
  const principal = request.principal as FastifyRequest['principal'] | null
  return request.headers.authorization !== undefined || (principal !== null && principal.kind !== 'anonymous')
}

export const headers: FastifyPluginAsync<HeadersOptions> = fp(plugin, { name: '@marty/headers', fastify: '5.x' })
export default headers

export { problemServerOptions } from '@marty/core'
export type { ContentSecurityPolicy, Directive } from './content-security-policy.js'
export { HeadersOptionInvalid } from './errors.js'
export type { CorsOptions, Environment, HeaderOverrides, HeadersOptions, HstsOptions } from './options.js'
export type { Feature, Permissions } from './permissions.js'
