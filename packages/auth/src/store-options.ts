import { checkOptions, type ItemSpec, type OptionSpec, type OptionTable } from '@marty/core'
import type { RedisClient } from '@marty/redis'
import { SCOPE } from './option-scope.js'

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

export const REDIS: OptionSpec<RedisClient> = {
  kind: 'custom',
  expected: 'a Redis client, such as openRedis(...).client',
  accepts: value => typeof (value as Partial<RedisClient> | null)?.evalsha === 'function',
  about: 'Redis client, such as `openRedis(...).client`.'
}

/** The prefix of every Redis key. */
export const PREFIX: ItemSpec<string> = {
  kind: 'string',
  pattern: /^[\w:.-]{1,64}$/,
  expected: '1 to 64 letters, digits, "_", ":", "." or "-"'
}

export const STORE: OptionSpec<AuthStore | undefined, ResolvedAuthStore> = {
  kind: 'object',
  or: ['memory'],
  options: {
    redis: REDIS,
    prefix: { ...PREFIX, default: 'marty:auth', about: 'Prefix of every Redis key.' }
  },
  default: 'memory',
  about: 'Where sessions, revocations, refresh tokens and failed attempts are stored. Redis shares them with all replicas.'
}

const STORE_TABLE: OptionTable<{ store?: AuthStore }, { store: ResolvedAuthStore }> = { store: STORE }

/** Throws `MARTY_AUTH_OPT_INVALID`. */
export function resolveStore (store: AuthStore = 'memory'): ResolvedAuthStore {
  return checkOptions(STORE_TABLE, { store }, SCOPE).store
}
