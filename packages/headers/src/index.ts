import './augment.js'
import { setClientErrorHandler, setStandardHeaders, useGuard } from '@marty/core'
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { registerCors } from './cors.js'
import { createHeaderSet, type HeaderSet } from './header-set.js'
import { createHelmetHeaders } from './helmet.js'
import { serveHelmetRoutes } from './helmet-routes.js'
import { resolveOptions, resolveOverrides, type HeaderOverrides, type HeadersOptions } from './options.js'

async function plugin (fastify: FastifyInstance, options: HeadersOptions): Promise<void> {
  const resolved = resolveOptions(options)
  const headersOf = await createHelmetHeaders(fastify)
  const standard = createHeaderSet(headersOf, resolved)
  const special = new WeakMap<HeaderOverrides, HeaderSet>()

  const setFor = (overrides: HeaderOverrides | undefined, url: string): HeaderSet => {
    if (overrides === undefined) return standard
    let set = special.get(overrides)
    if (set === undefined) {
      set = createHeaderSet(headersOf, resolved, { url, ...resolveOverrides(url, overrides) })
      special.set(overrides, set)
    }
    return set
  }

  const write = (request: FastifyRequest, reply: FastifyReply): void => {
    const set = setFor(request.routeOptions.config.headers, request.routeOptions.url ?? '')
    // Set them on the raw response: a handler that takes over the response sends them too, and can override them.
    for (const [name, value] of request.protocol === 'https' ? set.secure : set.plain) reply.raw.setHeader(name, value)
  }

  fastify.addHook('onRoute', route => { setFor(route.config?.headers, route.url) })
  fastify.addHook('onRequest', (request, reply, done) => {
    write(request, reply)
    done()
  })
  useGuard(fastify)
  // For requests that never reach a hook: malformed URLs, and bytes that are not HTTP.
  setStandardHeaders(fastify, isSecure => isSecure ? standard.secure : standard.plain)
  setClientErrorHandler(fastify)
  const hasOwnHelmet = await serveHelmetRoutes(fastify, resolved, standard, headersOf)
  const completeCors = resolved.cors === undefined ? null : await registerCors(fastify, resolved.cors)

  // This hook also runs for requests that an earlier hook refused, for errors and for unknown URLs.
  fastify.addHook('onSend', (request, reply, payload, done) => {
    if (!reply.raw.hasHeader('content-security-policy') && !hasOwnHelmet(reply)) write(request, reply)
    completeCors?.(request, reply)
    if (isPersonal(request) && !reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
    done(null, payload)
  })
}

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
