import t from 'tap'
import { Redis, type Cluster } from 'ioredis'
import type { LimitRule, RateLimitOptions } from '@marty/rate-limit'
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
  const own: SecurityRule = { public: true, limits: ['reads', { rule: 'reads', cost: 5 }, { limit: 5, windowMs: 1000, by: 'tenant', burst: { limit: 1, windowMs: 10 } }] }
  // @ts-expect-error there is no such preset
  const noPreset: RateLimitOptions = { rules: { login: 'logn' } }
  t.ok([own, noPreset, single, cluster, off, on, noDefault, noRules])
})
