import { checkOptions, type Operation, type OptionTable } from '@marty/core'
import type { FastifyRateLimitSettings } from './fastify-rate-limit/settings.js'
import { optionInvalid, SCOPE } from './option-scope.js'
import { presets, type PresetName } from './presets.js'
import type { HeaderStyle } from './response-headers.js'
import { RULE, RULE_NAME, undefinedMember, type CheckedRule, type LimitRule } from './rule-options.js'
import { addRule, verifyNames, type ResolvedRule } from './rules.js'
import {
  MAX_KEYS, NOW, REDIS_STORE, type RedisStoreSettings, type ResolvedRedisStore
} from './store-options.js'

export interface RateLimitOptions {
  /** The limits by name; each is a rule or the name of a preset. Routes and RPC methods refer to these names. */
  readonly rules: Readonly<Record<string, LimitRule | PresetName>>
  /** Names of rules applied to every operation of a transport, except those with `limits: false`. @default none */
  readonly apply?: { readonly http?: readonly string[], readonly rpc?: readonly string[] }
  /**
   * Names of rules by address that are charged when an authentication fails, on every operation that authenticates its
   * caller. Once such a rule is used up, the address is refused before its next credential is checked. @default none
   */
  readonly onAuthenticationFailure?: readonly string[]
  /** Where units are counted: in this process, or in Redis for all processes. @default 'memory' */
  readonly store?: 'memory' | RedisStoreSettings
  /**
   * Maximum number of entries in each in-process table: windows, and clients known to be over budget. @default 100000
   */
  readonly maxKeys?: number
  /** Monotonic clock in milliseconds, for tests. @default performance.now */
  readonly now?: () => number
  /**
   * Registers `@fastify/rate-limit` with these options, on the same store:
   * `config.rateLimit`, `createRateLimit()` and `rateLimit()` work as that plugin documents
   * them. `true` means `{}`, its defaults: 1000 requests a minute on every route.
   * @default false
   */
  readonly fastifyRateLimit?: boolean | FastifyRateLimitSettings
  /** The claim that names the tenant of a caller, for rules by tenant. @default 'tenant' */
  readonly tenantClaim?: string
  /** Which header fields report limits to clients; `Retry-After` is always sent with a refusal. @default 'draft' */
  readonly headers?: HeaderStyle
}

interface CheckedOptions extends Omit<Required<RateLimitOptions>, 'rules' | 'apply' | 'store'> {
  readonly rules: Readonly<Record<string, CheckedRule | PresetName>>
  readonly apply: Readonly<Record<Operation['transport'], readonly string[]>>
  readonly store: 'memory' | ResolvedRedisStore
}

export interface ResolvedOptions extends Omit<CheckedOptions, 'rules'> {
  /** Bursts have entries of their own. Inline rules are added as routes are declared. */
  readonly rules: Map<string, ResolvedRule>
}

const RULE_NAMES = { kind: 'list', items: { kind: 'string', expected: 'the name of a rule' } } as const

export const OPTIONS: OptionTable<RateLimitOptions, CheckedOptions> = {
  rules: {
    kind: 'record',
    names: RULE_NAME,
    values: { kind: 'object', or: Object.keys(presets) as PresetName[], options: RULE },
    verify: undefinedMember,
    about: 'The limits by name; each is a rule or the name of a [preset](#presets).'
  },
  apply: {
    kind: 'object',
    options: {
      http: { ...RULE_NAMES, default: [], about: 'The rules of every route that has a security rule, and of unknown URLs.' },
      rpc: { ...RULE_NAMES, default: [], about: 'The rules of every RPC method that has a security rule.' }
    },
    default: {},
    defaultText: 'none',
    about: 'Names of the rules that apply to every operation of a transport, except those with `limits: false`.'
  },
  onAuthenticationFailure: {
    ...RULE_NAMES,
    default: [],
    about: 'Names of rules by address that are charged when a credential is wrong. While such a rule is used up, a wrong ' +
      'credential gets 429, and a credential that could be guessed (such as a password) is not checked at all; a valid ' +
      'token, key, session or certificate of `@marty/auth` is still accepted.'
  },
  store: {
    kind: 'object',
    or: ['memory'],
    options: REDIS_STORE,
    default: 'memory',
    about: 'Where units are counted: in this process, or in Redis for all processes.'
  },
  maxKeys: MAX_KEYS,
  now: NOW,
  fastifyRateLimit: {
    kind: 'custom',
    or: [true, false],
    expected: 'an object with options of @fastify/rate-limit',
    accepts: value => typeof value === 'object' && value !== null && !Array.isArray(value),
    default: false,
    about: 'Registers `@fastify/rate-limit` on the same store: see [below](#coming-from-fastifyrate-limit).'
  },
  tenantClaim: {
    kind: 'string',
    expected: 'the name of a claim',
    default: 'tenant',
    about: "The claim that names a caller's tenant; its value must be a string."
  },
  headers: {
    kind: 'choice',
    choices: ['draft', 'legacy', 'both', 'none'],
    default: 'draft',
    about: 'Which header fields report limits: `draft` (`RateLimit`, `RateLimit-Policy`) or `legacy` (`X-RateLimit-*`). ' +
      '`Retry-After` is always sent with a refusal.'
  }
}

/** Checks the options and fills in the defaults. Throws `MARTY_RATE_LIMIT_OPT_INVALID` naming the field. */
export function resolveOptions (options: RateLimitOptions): ResolvedOptions {
  const checked = checkOptions(OPTIONS, options, { ...SCOPE, isPlugin: true })
  const rules = new Map<string, ResolvedRule>()
  for (const [name, rule] of Object.entries(checked.rules)) {
    addRule(rules, `rules.${name}`, name, typeof rule === 'string' ? checkOptions(RULE, presets[rule], SCOPE) : rule)
  }
  verifyApplied('apply.http', checked.apply.http, rules)
  verifyApplied('apply.rpc', checked.apply.rpc, rules)
  verifyFailureRules('onAuthenticationFailure', checked.onAuthenticationFailure, rules)
  return Object.freeze({ ...checked, rules })
}

type Rules = ReadonlyMap<string, ResolvedRule>

function verifyApplied (field: string, names: readonly string[], rules: Rules): void {
  verifyNames(field, names, rules)
  const name = names.find(name => rules.get(name)!.by.startsWith('account'))
  if (name === undefined) return
  const problem = `names "${name}", which counts by account; only a handler knows the account: charge it there, ` +
    `limiter.check({ account, address }, ["${name}"])`
  throw optionInvalid(field, problem)
}

/** When a credential is wrong, only the address and the operation are known. */
function verifyFailureRules (field: string, names: readonly string[], rules: Rules): void {
  verifyNames(field, names, rules)
  const name = names.find(name => !rules.get(name)!.by.startsWith('address'))
  if (name === undefined) return
  const problem = `names "${name}", which counts by ${rules.get(name)!.by}; only rules by address or ` +
    'address+operation can be charged before it is known who is calling'
  throw optionInvalid(field, problem)
}
