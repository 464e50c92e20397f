import type { Test } from 'tap'
import Fastify, { type FastifyInstance, type FastifyServerOptions, type InjectOptions } from 'fastify'
import fastifyRateLimit, { type RateLimitPluginOptions } from '@fastify/rate-limit'
import { rateLimit, slidingWindowStore } from '@marty/rate-limit'
import { freePort, startRedis } from '@marty/testing'
import { Redis } from 'ioredis'

/** `@fastify/rate-limit`, on a store of its own or on ours. */
export interface Subject {
  readonly name: string
  readonly isOurs: boolean
  readonly isRedis: boolean
  /** Registers it; what has the same `space` shares budgets, if that can be. */
  register(app: FastifyInstance, settings?: RateLimitPluginOptions, space?: string): Promise<void>
}

let spaces = 0
export const newSpace = (): string => `space${++spaces}`

export interface Server {
  readonly redis: Redis
  readonly pid: number
}

export async function startServer (t: Test): Promise<Server> {
  const server = await startRedis(await freePort())
  const redis = new Redis(server.port, {
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    lazyConnect: true,
    retryStrategy: () => 50
  })
  redis.on('error', () => {
    /* outages are part of these tests */
  })
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
  })
  await redis.connect()
  return { redis, pid: server.child.pid! }
}

export function subjectsOn (redis: Redis): Subject[] {
  // A noisy machine must not turn an answer of Redis into one of the local store.
  const patient = { redis, deadlineMs: 10_000 }
  return [
    {
      name: 'its own memory',
      isOurs: false,
      isRedis: false,
      async register (app, settings = {}) {
        await app.register(fastifyRateLimit, settings)
      }
    },
    {
      name: 'its own Redis',
      isOurs: false,
      isRedis: true,
      async register (app, settings = {}, space = newSpace()) {
        await app.register(fastifyRateLimit, { ...settings, redis, nameSpace: space })
      }
    },
    {
      name: 'our store in memory',
      isOurs: true,
      isRedis: false,
      async register (app, settings = {}) {
        await app.register(fastifyRateLimit, { ...settings, store: slidingWindowStore() })
      }
    },
    {
      name: 'our store in Redis',
      isOurs: true,
      isRedis: true,
      async register (app, settings = {}, space = newSpace()) {
        await app.register(fastifyRateLimit, { ...settings, store: slidingWindowStore({ ...patient, prefix: space }) })
      }
    },
    {
      name: 'our plugin in memory',
      isOurs: true,
      isRedis: false,
      async register (app, settings = {}) {
        await app.register(rateLimit, { rules: {}, fastifyRateLimit: settings })
      }
    },
    {
      name: 'our plugin on Redis',
      isOurs: true,
      isRedis: true,
      async register (app, settings = {}, space = newSpace()) {
        await app.register(rateLimit, { rules: {}, fastifyRateLimit: settings, store: { ...patient, prefix: space } })
      }
    }
  ]
}

export function newApp (t: Test, options: FastifyServerOptions = {}): FastifyInstance {
  const app = Fastify({ trustProxy: '127.0.0.1', ...options })
  t.teardown(() => app.close())
  return app
}

export const from = (url: string, address = '192.0.2.1', headers: Record<string, string> = {}): InjectOptions => ({
  url,
  headers: { 'x-forwarded-for': address, ...headers }
})

/** The statuses of so many requests, one after the other. */
export async function statuses (
  app: FastifyInstance,
  count: number,
  request: InjectOptions | string
): Promise<number[]> {
  const codes: number[] = []
  for (let i = 0; i < count; i++) codes.push((await app.inject(request)).statusCode)
  return codes
}
