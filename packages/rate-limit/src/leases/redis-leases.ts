import { redisScript, type ScriptClient } from '@marty/redis/script'
import { LEASE_SCRIPT } from './script.js'
import type { LeaseStore } from './leased-store.js'
import { DEFAULT_PREFIX, windowName } from '../redis/key.js'
import type { RedisStoreOptions } from '../redis/store.js'

const runLease = redisScript(LEASE_SCRIPT)

/** Grants leases from the windows of the Redis store that has the same client and prefix. */
export function createRedisLeases ({ redis, prefix = DEFAULT_PREFIX }: RedisStoreOptions): LeaseStore {
  const keyOf = (rule: string, subject: string): string =>
    windowName(prefix, redis.isCluster === true, rule, subject, true).key
  return {
    async take ({ rule, subject, limit, windowMs }, { leaseMs, units, share, unspent }) {
      const answer = await runLease(
        redis as ScriptClient,
        [keyOf(rule, subject)],
        [limit, windowMs * 1000, leaseMs * 1000, units, share, unspent?.stamp ?? '0', unspent?.units ?? 0]
      )
      const [granted, stamp, resetUs] = answer as [number, string, number]
      return { units: granted, stamp, resetUs }
    }
  }
}
