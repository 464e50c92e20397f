import fastifyHelmet, { type FastifyHelmetOptions } from '@fastify/helmet'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'

export type HeaderList = ReadonlyArray<readonly [name: string, value: string]>

/** Computes the headers that helmet sends with these options. Throws helmet's error for options that it refuses. */
export type HelmetHeaders = (options: FastifyHelmetOptions) => HeaderList

type RequestHook = (
  this: FastifyInstance,
  request: FastifyRequest,
  reply: FastifyReply,
  done: (error?: Error) => void
) => unknown

/** The hooks that `@fastify/helmet` adds to an application. */
export interface HelmetHooks {
  readonly onRoute: ReadonlyArray<(this: FastifyInstance, route: RouteOptions) => void>
  readonly onRequest: readonly RequestHook[]
}

/**
 * Runs `@fastify/helmet`, but keeps its hooks instead of adding them to the application: there they would assemble the
 * same headers again for every request. Its decorators are added. The plugin leaves routes without `helmet` alone.
 */
export async function collectHelmetHooks (
  fastify: FastifyInstance,
  options: FastifyHelmetOptions
): Promise<HelmetHooks> {
  const hooks = { onRoute: [], onRequest: [] }
  const scope: FastifyInstance = Object.create(fastify, {
    addHook: {
      value (name: keyof typeof hooks, hook: never) {
        hooks[name].push(hook)
        return scope
      }
    }
  })
  await fastifyHelmet(scope, { ...options, global: false })
  return hooks
}

/** Lets a request pass through the hooks, as Fastify does. */
export async function runHelmetHooks (
  fastify: FastifyInstance,
  { onRequest }: HelmetHooks,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<void> {
  for (const hook of onRequest) {
    await new Promise<unknown>((resolve, reject) => {
      const done = (error?: Error): void => { error === undefined ? resolve(null) : reject(error) }
      const returned = hook.call(fastify, request, reply, done)
      if (returned instanceof Promise) resolve(returned)
    })
  }
}

/**
 * The headers do not depend on the request, so `reply.helmet()` computes them once, on a response that records them.
 */
export async function createHelmetHeaders (fastify: FastifyInstance): Promise<HelmetHeaders> {
  let recorded: Array<readonly [string, string]> = []
  const raw = {
    setHeader (name: string, value: string) { recorded.push([name.toLowerCase(), value]) },
    removeHeader () {}
  }
  const request = { raw: {}, routeOptions: { config: {} } } as unknown as FastifyRequest
  const reply = { raw } as unknown as FastifyReply
  await runHelmetHooks(fastify, await collectHelmetHooks(fastify, {}), request, reply)

  return options => {
    recorded = []
    reply.helmet(options)
    return recorded
  }
}
