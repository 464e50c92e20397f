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
  t.ok([single, cluster, off, on, noDefault, noRules])
})
