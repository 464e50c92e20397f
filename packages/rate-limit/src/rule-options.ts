import type { ItemSpec, OptionTable } from '@marty/core'
import type { LeaseOptions } from './leases/leased-store.js'
import { MAX_LIMIT, MAX_WINDOW_MS } from './option-scope.js'
import type { StoreFailureMode } from './store/failover.js'
import { FAILURE_MODE } from './store-options.js'
import type { LimitBy } from './subject.js'

/** At most `limit` units in every window of `windowMs` milliseconds. */
export interface LimitRule {
  /**
   * A positive integer, or one per role: a caller gets the largest limit of its roles, or `default` if it has none of
   * them. The store keeps one timestamp per unit, so memory grows with the use of the limit; at most 1000000.
   */
  readonly limit: number | (Readonly<Record<string, number>> & { readonly default: number })
  /** Length of the window in milliseconds; a positive integer, at most 366 days. */
  readonly windowMs: number
  /**
   * Which budget is charged. `principal` counts callers without an identity by address,
   * `tenant` counts callers without a tenant by principal, and `apiKey` counts only callers
   * with an API key. `account` and `account+address` count by the account that the caller
   * claims to own. Only the handler knows it, so charge such rules with `limiter.check`.
   */
  readonly by: LimitBy
  /** Units that each call takes. @default 1 */
  readonly cost?: number
  /** A second, shorter window over the same calls: the rule `<name>.burst`. @default none */
  readonly burst?: BurstLimit
  /** What happens while Redis does not answer; overrides the store's `onFailure`. */
  readonly onFailure?: StoreFailureMode
  /**
   * Lets each process lease units of a hot budget for a short time and spend them from memory, without a call to
   * Redis: for limits above 128 that all callers, a tenant or an operation share. Never admits more than the limit;
   * may refuse early, by the units that other processes hold. `true` means `{}`, the defaults. Ignored without Redis.
   * @default false
   */
  readonly lease?: boolean | LeaseOptions
}

/** At most `limit` units in every window of `windowMs`, which is shorter than the rule's own window. */
export interface BurstLimit {
  /** A positive integer, or one per role as in the rule; for no role more than the rule's own limit. */
  readonly limit: LimitRule['limit']
  /** In milliseconds. */
  readonly windowMs: number
}

export interface CheckedRule extends Required<Pick<LimitRule, 'limit' | 'windowMs' | 'by' | 'cost'>> {
  readonly burst: BurstLimit | undefined
  readonly onFailure: StoreFailureMode | undefined
  readonly lease: boolean | Required<LeaseOptions>
}

/** Rule names are part of keys and of quoted header fields, so only characters that need no escaping are allowed. */
export const RULE_NAME: { readonly pattern: RegExp, readonly expected: string } = {
  pattern: /^[A-Za-z][\w.-]{0,63}$/,
  expected: 'a letter, then letters, digits, "_", "." or "-", at most 64'
}

const UNITS = { kind: 'integer', min: 1, max: MAX_LIMIT } as const
const WINDOW_MS = { kind: 'integer', min: 1, max: MAX_WINDOW_MS } as const

const LIMIT: ItemSpec<LimitRule['limit']> = {
  kind: 'either',
  kinds: [UNITS, { kind: 'record', values: UNITS, verify: roleProblem }]
}

const BURST: OptionTable<BurstLimit> = {
  limit: { ...LIMIT, about: 'Units in the shorter window; for no role more than the limit of the rule.' },
  windowMs: { ...WINDOW_MS, about: "Length of the window, shorter than the rule's own." }
}

const LEASE: OptionTable<LeaseOptions> = {
  share: {
    kind: 'number',
    above: 0,
    max: 0.5,
    default: 0.1,
    about: 'The largest part of what is left of the limit that one lease takes.'
  },
  ttlMs: {
    kind: 'number',
    min: 5,
    max: 500,
    default: 100,
    about: 'How long a lease lasts; never more than a tenth of the window.'
  }
}

export const RULE: OptionTable<LimitRule, CheckedRule> = {
  limit: {
    ...LIMIT,
    about: 'Units in every window. An object has one limit for each role, and a `default`; a caller with several roles ' +
      'gets the largest.'
  },
  windowMs: { ...WINDOW_MS, about: 'Length of the window, up to 366 days.' },
  by: {
    kind: 'choice',
    choices: [
      'address', 'principal', 'operation', 'principal+operation', 'address+operation', 'global', 'apiKey', 'tenant',
      'account', 'account+address'
    ],
    about: 'Which budget is charged: see [What a rule counts by](#what-a-rule-counts-by).'
  },
  cost: { ...UNITS, default: 1, about: 'Units of one call.' },
  burst: {
    kind: 'object',
    options: BURST,
    optional: true,
    about: 'A second, shorter window over the same calls; clients see it as `NAME.burst`. It reads the stored window of ' +
      'its rule, so it costs little.'
  },
  onFailure: {
    ...FAILURE_MODE,
    optional: true,
    defaultText: "the store's",
    about: 'What this rule does while Redis does not answer.'
  },
  lease: {
    kind: 'object',
    or: [true, false],
    options: LEASE,
    default: false,
    about: 'For limits above 128 that many callers share: each process takes some units in advance and spends them from ' +
      'memory, [never above the limit](../../docs/guides/rate-limiting.md#hot-keys-leases). Ignored without Redis.'
  }
}

function roleProblem (limits: Exclude<LimitRule['limit'], number>): string | null {
  if (!Object.hasOwn(limits, 'default')) return 'needs a "default" for callers with none of its roles'
  return undefinedMember(limits)
}

/** A member that is undefined would count as left out, and its limit would silently not apply. */
export function undefinedMember (members: object): string | null {
  const name = Object.entries(members).find(([, value]) => value === undefined)?.[0]
  return name === undefined ? null : `has a member "${name}" that is undefined`
}
