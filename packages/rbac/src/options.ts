import { closest } from '@marty/core'
import { didYouMean } from './did-you-mean.js'
import { OptionInvalid } from './errors.js'
import type { PolicyRedis } from './reload/redis.js'

export interface RbacOptions {
  /** The policy file. Exactly one of `policyFile` and `policy` is given. */
  readonly policyFile?: string
  /** The policy itself, as a YAML string. */
  readonly policy?: string
  /**
   * The environment the service runs in: a name or alias from
   * the policy. Required: a wrong default could widen access.
   */
  readonly environment: string
  /**
   * The name of this service in the policy. Rules for calls to this service apply only when it is set.
   * @default none
   */
  readonly service?: string
  /**
   * A file of policy tests. Every policy, including the first, must pass them before it is used.
   * @default none
   */
  readonly policyTests?: string
  /**
   * Whether to load newer policies while the service runs, and from where.
   * @default true with `policyFile`, else false
   */
  readonly reload?: boolean | ReloadOptions
  /** URL of a POST route that explains decisions to holders of `policy:explain`. @default none */
  readonly explainUrl?: string
  /**
   * The fraction of decisions that are also checked with Casbin, afterwards and one at a time; 0 for none.
   * @default 1/10000
   */
  readonly shadowRate?: number
}

export interface ReloadOptions {
  /**
   * Follow the policies that `publishPolicy` publishes, instead of the file. Until one is published, the
   * first policy stays in use.
   * @default none
   */
  readonly redis?: PolicyRedis
  /**
   * How often to poll the file or Redis, in addition to change
   * notifications, in milliseconds from 20 to 60,000.
   * @default 2000, with Redis 400
   */
  readonly pollMs?: number
  /**
   * The time limit for reading, compiling and testing a policy, in milliseconds from 100 to 600,000.
   * @default 30000
   */
  readonly timeoutMs?: number
  /**
   * Environments, by name or alias, in which a newer policy must not grant more than `policyTests` state.
   * If it does, the policy in use stays in use. Without `policyTests`, a newer policy must not grant
   * anything more. The first policy of a process is not compared with any other.
   * @default [] - anything may be granted anywhere
   */
  readonly refuseGain?: readonly string[]
}

export interface ResolvedOptions {
  readonly policyFile: string | null
  readonly policy: string | null
  readonly environment: string
  readonly service: string | undefined
  readonly policyTests: string | null
  readonly reload: {
    readonly isOn: boolean
    readonly redis: PolicyRedis | null
    readonly pollMs: number
    readonly timeoutMs: number
    readonly refuseGain: readonly string[]
  }
  readonly explainUrl: string | null
  readonly shadowRate: number
}

const TEXTS = ['policyFile', 'policy', 'environment', 'service', 'policyTests', 'explainUrl'] as const
const KEYS = [...TEXTS, 'reload', 'shadowRate'] as const satisfies ReadonlyArray<keyof RbacOptions>

export function resolveOptions (options: Partial<RbacOptions>): ResolvedOptions {
  for (const key of Object.keys(options)) {
    if ((KEYS as readonly string[]).includes(key)) continue
    const near = closest(key, KEYS)
    throw new OptionInvalid(
      `@marty/rbac has no option "${key}"` +
        (near === null ? `; it has ${KEYS.join(', ')}` : `; did you mean "${near}"?`)
    )
  }
  for (const key of TEXTS) {
    const value: unknown = options[key]
    if (value !== undefined && (typeof value !== 'string' || value.trim() === '')) {
      throw new OptionInvalid(`option "${key}" of @marty/rbac must be a text that is not empty`)
    }
  }
  const {
    policyFile = null,
    policy = null,
    environment,
    service,
    policyTests = null,
    reload = policyFile !== null,
    explainUrl = null,
    shadowRate = 1 / 10_000
  } = options
  if ((policyFile === null) === (policy === null)) {
    throw new OptionInvalid(
      '@marty/rbac needs either the option "policyFile" or the option "policy"' + (policy === null ? '' : ', not both')
    )
  }
  if (environment === undefined) {
    throw new OptionInvalid('@marty/rbac needs the option "environment", such as "production"')
  }
  const {
    redis = null,
    pollMs = redis === null ? 2_000 : 400,
    timeoutMs = 30_000,
    refuseGain = []
  } = resolveReload(reload)
  if (reload !== false && policyFile === null && redis === null) {
    throw new OptionInvalid(
      'option "reload" of @marty/rbac needs the option "policyFile" or "reload.redis" to reload from'
    )
  }
  if (explainUrl !== null && !explainUrl.startsWith('/')) {
    throw new OptionInvalid('option "explainUrl" of @marty/rbac must begin with /')
  }
  if (typeof shadowRate !== 'number' || !(shadowRate >= 0 && shadowRate <= 1)) {
    throw new OptionInvalid('option "shadowRate" of @marty/rbac must be a number from 0 to 1')
  }
  return Object.freeze({
    policyFile,
    policy,
    environment,
    service,
    policyTests,
    explainUrl,
    shadowRate,
    reload: Object.freeze({ isOn: reload !== false, redis, pollMs, timeoutMs, refuseGain })
  })
}

const RELOAD_KEYS: readonly string[] = ['redis', 'pollMs', 'timeoutMs', 'refuseGain'] satisfies ReadonlyArray<
  keyof ReloadOptions
>

function resolveReload (reload: unknown): ReloadOptions {
  const invalid = (what: string): Error => new OptionInvalid(`option "reload${what}`)
  if (typeof reload === 'boolean') return {}
  if (typeof reload !== 'object' || reload === null) throw invalid('" of @marty/rbac must be true, false or settings')
  for (const key of Object.keys(reload)) {
    if (!RELOAD_KEYS.includes(key)) {
      throw invalid(
        `" of @marty/rbac has no "${key}"${didYouMean(key, RELOAD_KEYS) || `; it has ${RELOAD_KEYS.join(', ')}`}`
      )
    }
  }
  const { redis, pollMs, timeoutMs, refuseGain } = reload as ReloadOptions
  if (
    refuseGain !== undefined &&
    !(Array.isArray(refuseGain) && refuseGain.every(name => typeof name === 'string' && name !== ''))
  ) {
    throw invalid('.refuseGain" of @marty/rbac must be a list of environments, such as ["production"]')
  }
  if (!isWithin(pollMs, 20, 60_000)) throw invalid('.pollMs" of @marty/rbac must be 20 to 60,000 milliseconds')
  if (!isWithin(timeoutMs, 100, 600_000)) {
    throw invalid('.timeoutMs" of @marty/rbac must be 100 to 600,000 milliseconds')
  }
  if (redis !== undefined) {
    const { client, subscriber, prefix } = redis ?? {}
    if (typeof client?.evalsha !== 'function') {
      throw invalid('.redis" of @marty/rbac must be { client }, such as { client: openRedis(...).client }')
    }
    if (subscriber !== undefined && typeof subscriber?.subscribe !== 'function') {
      throw invalid('.redis.subscriber" of @marty/rbac must be a Redis client')
    }
    if (prefix !== undefined && !/^[\w:.-]{1,64}$/.test(prefix)) {
      throw invalid('.redis.prefix" of @marty/rbac must be 1 to 64 letters, digits, "_", ":", "." or "-"')
    }
  }
  return reload
}

function isWithin (value: unknown, least: number, most: number): boolean {
  return value === undefined || (typeof value === 'number' && value >= least && value <= most)
}
