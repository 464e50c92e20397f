import type { FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyInstance, onRequestAsyncHookHandler, RouteOptions } from 'fastify'
import { helmetOptions, type HeaderSet } from './header-set.js'
import { collectHelmetHooks, runHelmetHooks, type HelmetHeaders } from './helmet.js'
import { optionInvalid, type ResolvedOptions } from './options.js'

/**
 * Serves routes that have the `helmet` option of `@fastify/helmet`, which replaces our options one by one. The hooks of
 * that plugin run for these routes only, after the guard: a refusal has the standard headers.
 */
export async function serveHelmetRoutes (
  fastify: FastifyInstance,
  options: ResolvedOptions,
  standard: HeaderSet,
  headersOf: HelmetHeaders
): Promise<void> {
  const plain = await collectHelmetHooks(fastify, helmetOptions(options, false))
  const secure = await collectHelmetHooks(fastify, helmetOptions(options, true))

  const applyHelmet: onRequestAsyncHookHandler = async (request, reply) => {
    const isSecure = request.protocol === 'https'
    for (const [name] of (isSecure ? standard.secure : standard.plain).list) {
      if (name !== 'permissions-policy') reply.raw.removeHeader(name)
    }
    await runHelmetHooks(fastify, isSecure ? secure : plain, request, reply)
  }

  fastify.addHook('onRoute', route => {
    for (const hook of plain.onRoute) hook.call(fastify, route)
    // The plugin moves the option of a route to its config; `false` becomes `{ skipRoute: true }`.
    const { helmet } = route.config as { readonly helmet?: FastifyHelmetOptions } ?? {}
    if (helmet === undefined) return
    verify(route, Object.assign(helmetOptions(options, true), helmet), headersOf)
    // The route for HEAD inherits the hooks of the route for GET.
    const hooks = [route.onRequest ?? []].flat()
    if (!hooks.includes(applyHelmet)) route.onRequest = [applyHelmet, ...hooks]
  })
}

/** Checks what would otherwise fail for every request of the route. */
function verify ({ config, url }: RouteOptions, helmet: FastifyHelmetOptions, headersOf: HelmetHeaders): void {
  if (config?.headers !== undefined) {
    throw optionInvalid('helmet', 'cannot be combined with "config.headers": use one of them', url)
  }
  try {
    headersOf(helmet)
  } catch (error) {
    throw optionInvalid('helmet', `is refused: ${error instanceof Error ? error.message : String(error)}`, url)
  }
}
