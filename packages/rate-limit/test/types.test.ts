import t from 'tap'
import { Redis, type Cluster } from 'ioredis'
import type { RouteShorthandOptions } from 'fastify'
import type { RateLimitPluginOptions } from '@fastify/rate-limit'
import {
  SlidingWindowStore,
  slidingWindowStore,
  type LimitRule,
  type RateLimitOptions,
  type SlidingWindowStoreOptions
} from '@marty/rate-limit'
import type { ScriptClient } from '@marty/redis'
import type { SecurityRule } from '@marty/core'

t.test('types', async t => {
  const single: ScriptClient = new Redis({ lazyConnect: true })
  const cluster = (client: Cluster): ScriptClient => client
  const off: SecurityRule = { public: true, limits: false }
  // @ts-expect-error true means nothing
  const on: SecurityRule = { public: true, limits: true }
  // @ts-expect-error a limit by role needs a default
  const noDefault: LimitRule = { limit: { admin: 5 }, windowMs: 1000, by: 'address' }
  // @ts-expect-error rules are required
  const noRules: RateLimitOptions = {}
  const own: SecurityRule = {
    public: true,
    limits: [
      'reads',
      { rule: 'reads', cost: 5 },
      { limit: 5, windowMs: 1000, by: 'tenant', burst: { limit: 1, windowMs: 10 } }
    ]
  }
  // @ts-expect-error there is no such preset
  const noPreset: RateLimitOptions = { rules: { login: 'logn' } }
  t.ok([own, noPreset, single, cluster, off, on, noDefault, noRules])
})

t.test('types of those who come from @fastify/rate-limit', async t => {
  const redis = new Redis({ lazyConnect: true })
  const theirs: RateLimitPluginOptions = {
    max: 100,
    timeWindow: '1 minute',
    store: slidingWindowStore({ redis, onFailure: 'closed' })
  }
  const inMemory: RateLimitPluginOptions = { store: SlidingWindowStore }
  const ours: RateLimitOptions = {
    rules: {},
    store: { redis },
    fastifyRateLimit: { max: async () => 5, ban: 2, allowList: ['127.0.0.1'], keyGenerator: request => request.ip }
  }
  const defaults: RateLimitOptions = { rules: {}, fastifyRateLimit: true }
  const route: RouteShorthandOptions = { config: { security: { public: true }, rateLimit: { max: 5, groupId: 'otp' } } }
  // @ts-expect-error the connection belongs to the store of the limiter
  const elsewhere: RateLimitOptions = { rules: {}, fastifyRateLimit: { redis } }
  // @ts-expect-error a refused request leaves no trace
  const prolonged: RateLimitOptions = { rules: {}, fastifyRateLimit: { continueExceeding: true } }
  // @ts-expect-error a name of the other plugin
  const renamed: SlidingWindowStoreOptions = { redis, nameSpace: 'x' }
  t.ok([theirs, inMemory, ours, defaults, route, elsewhere, prolonged, renamed])
})
