import { checkOptions, optionsInvalid, type OptionProblem, type OptionScope, type OptionTable } from '@marty/core'
import type { RedisClient } from '@marty/redis'
import { RbacOptionInvalid } from './errors.js'
import { DEFAULT_PREFIX, type PolicyRedis } from './reload/redis.js'

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
  readonly shadowRatio?: number
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
   * The time limit for reading, compiling and testing a policy, in seconds from 0.1 to 600.
   * @default 30
   */
  readonly timeoutSeconds?: number
  /**
   * Environments, by name or alias, in which a newer policy must not grant more than `policyTests` state.
   * If it does, the policy in use stays in use. Without `policyTests`, a newer policy must not grant
   * anything more. The first policy of a process is not compared with any other.
   * @default [] - anything may be granted anywhere
   */
  readonly refuseGain?: readonly string[]
}

/** The options after the check, with their defaults. What has no default is undefined. */
export interface ResolvedOptions extends Omit<CheckedOptions, 'reload'> {
  readonly reload: ResolvedReload
}

interface ResolvedReload extends CheckedReload {
  readonly isOn: boolean
  readonly pollMs: number
}

interface CheckedOptions {
  readonly policyFile: string | undefined
  readonly policy: string | undefined
  readonly environment: string
  readonly service: string | undefined
  readonly policyTests: string | undefined
  readonly reload: boolean | CheckedReload | undefined
  readonly explainUrl: string | undefined
  readonly shadowRatio: number
}

interface CheckedReload {
  readonly redis: CheckedRedis | undefined
  readonly pollMs: number | undefined
  readonly timeoutSeconds: number
  readonly refuseGain: readonly string[]
}

interface CheckedRedis {
  readonly client: RedisClient
  readonly subscriber: RedisClient | undefined
  readonly prefix: string
}

const TEXT = { kind: 'string', pattern: /\S/, expected: 'a non-empty string' } as const

const REDIS: OptionTable<PolicyRedis, CheckedRedis> = {
  client: {
    kind: 'custom',
    expected: 'a Redis client, such as openRedis(...).client',
    accepts: value => typeof (value as Partial<RedisClient> | null)?.evalsha === 'function',
    about: 'The Redis client for published policies; it is never closed.'
  },
  subscriber: {
    kind: 'custom',
    expected: 'a Redis client, such as openRedis(...).client',
    accepts: value => typeof (value as Partial<RedisClient> | null)?.subscribe === 'function',
    optional: true,
    about: 'A second client, used only for the subscription; without it, changes are found by polling.'
  },
  prefix: {
    kind: 'string',
    pattern: /^[\w:.-]{1,64}$/,
    expected: '1 to 64 letters, digits, "_", ":", "." or "-"',
    default: DEFAULT_PREFIX,
    about: 'Prefix of the key.'
  }
}

const RELOAD: OptionTable<ReloadOptions, CheckedReload> = {
  redis: {
    kind: 'object',
    options: REDIS,
    optional: true,
    about: 'Follow the policies that `publishPolicy` publishes, instead of the file.'
  },
  pollMs: {
    kind: 'number',
    min: 20,
    max: 60_000,
    optional: true,
    defaultText: '2000, with Redis 400',
    about: 'How often to poll, in addition to change notifications.'
  },
  timeoutSeconds: {
    kind: 'number',
    min: 0.1,
    max: 600,
    default: 30,
    about: 'Time limit for reading, compiling and testing a policy.'
  },
  refuseGain: {
    kind: 'list',
    items: TEXT,
    default: [],
    about: 'Environments in which a newer policy must not grant more than `policyTests` state.'
  }
}

export const OPTIONS: OptionTable<RbacOptions, CheckedOptions> = {
  policyFile: { ...TEXT, optional: true, about: 'The policy file. Give exactly one of `policyFile` and `policy`.' },
  policy: { ...TEXT, optional: true, about: 'The policy itself, as a YAML string.' },
  environment: {
    ...TEXT,
    expected: 'the name or alias of an environment of the policy',
    about: 'The environment in which the service runs. A default could widen access, so there is none.'
  },
  service: {
    ...TEXT,
    optional: true,
    about: 'The name of this service in the policy. Rules for calls to it apply only when it is set.'
  },
  policyTests: {
    ...TEXT,
    optional: true,
    about: 'A file of policy tests that every policy, including the first, must pass before it is used.'
  },
  reload: {
    kind: 'object',
    options: RELOAD,
    or: [true, false],
    optional: true,
    defaultText: '`true` with `policyFile`, else `false`',
    about: 'Whether to load newer policies while the service runs, and from where: see [Reloading](#reloading).'
  },
  explainUrl: {
    kind: 'string',
    pattern: /^\//,
    expected: 'a path that begins with "/"',
    optional: true,
    about: 'URL of a POST route that explains decisions to holders of `policy:explain`.'
  },
  shadowRatio: {
    kind: 'number',
    min: 0,
    max: 1,
    default: 1 / 10_000,
    about: 'The fraction of decisions that are also checked with Casbin; 0 for none.'
  }
}

const SCOPE: OptionScope = { subject: 'rbac', refuse: message => new RbacOptionInvalid(message), isPlugin: true }

/** Creates the error for problems that show only when the policy is known. */
export function optionInvalid (...problems: readonly OptionProblem[]): Error {
  return optionsInvalid(SCOPE, problems)
}

/** Checks the options and fills in the defaults. Throws `MARTY_RBAC_OPT_INVALID`, which names every problem. */
export function resolveOptions (given: RbacOptions): ResolvedOptions {
  const options = checkOptions(OPTIONS, given, SCOPE)
  const { policyFile, policy } = options
  if ((policyFile === undefined) === (policy === undefined)) {
    const problem = `need either "policyFile" or "policy"${policy === undefined ? '' : ', not both'}`
    throw optionInvalid({ field: '', problem })
  }
  const reload = resolveReload(options.reload ?? policyFile !== undefined)
  if (reload.isOn && policyFile === undefined && reload.redis === undefined) {
    const problem = 'needs the option "policyFile" or "reload.redis", to have a source of newer policies'
    throw optionInvalid({ field: 'reload', problem })
  }
  return Object.freeze({ ...options, reload })
}

function resolveReload (given: boolean | CheckedReload): ResolvedReload {
  const reload = typeof given === 'boolean' ? checkOptions(RELOAD, {}, SCOPE) : given
  const { pollMs = reload.redis === undefined ? 2_000 : 400 } = reload
  return Object.freeze({ ...reload, pollMs, isOn: given !== false })
}
