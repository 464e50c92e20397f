import type { RedisClient } from '@marty/redis'
import { AuthOptionInvalid } from './errors.js'

/** Stores refresh tokens, revocations, sessions and lockout counters in Redis, shared by all replicas. */
export interface RedisAuthStore {
  /** For example `openRedis(...).client`. */
  readonly redis: RedisClient
  /** Prefix of every Redis key: 1 to 64 letters, digits, `_`, `:`, `.` or `-`. @default 'marty:auth' */
  readonly prefix?: string
}

/** `memory` is lost when the process ends and is not shared with other replicas. */
export type AuthStore = 'memory' | RedisAuthStore

export type ResolvedAuthStore = 'memory' | Required<RedisAuthStore>

export function resolveStore (store: AuthStore = 'memory'): ResolvedAuthStore {
  if (store === 'memory') return store
  const { redis, prefix = 'marty:auth' } = store ?? {}
  if (typeof redis?.evalsha !== 'function') {
    throw new AuthOptionInvalid(
      'auth option "store" must be "memory" or { redis: client }, such as { redis: openRedis(...).client }'
    )
  }
  if (typeof prefix !== 'string' || !/^[\w:.-]{1,64}$/.test(prefix)) {
    throw new AuthOptionInvalid('auth option "store.prefix" must be 1 to 64 letters, digits, "_", ":", "." or "-"')
  }
  return Object.freeze({ redis, prefix })
}
