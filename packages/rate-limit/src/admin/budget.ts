import { addressKey, ANONYMOUS, type Principal } from '@marty/core'
import { BudgetInvalid } from '../errors.js'
import { subjectOf, type LimitBy } from '../subject.js'

/**
 * Names a budget by the members that its rule counts by. A rule by principal counts
 * callers without an identity by address.
 */
export interface BudgetName {
  readonly rule: string
  readonly address?: string
  /** `roles` are needed only for a limit that depends on roles. */
  readonly principal?: Pick<Principal, 'kind' | 'id'> & Partial<Pick<Principal, 'roles'>>
  readonly tenant?: string
  /** Spelled as the service spells it when it charges the budget. */
  readonly account?: string
  /** The operation's name: `GET /cameras/:id` or `take_snapshot`. */
  readonly operation?: string
}

type Word = Exclude<keyof BudgetName, 'rule'>

/** For each part of `by`: the members of which exactly one must be given, and their description for errors. */
const PARTS: Readonly<Record<string, readonly [readonly Word[], string]>> = {
  address: [['address'], 'the address'],
  principal: [['principal', 'address'], 'the principal, or the address of a caller without an identity'],
  apiKey: [['principal'], 'the principal of the key, such as key:ID'],
  tenant: [['tenant', 'principal', 'address'], 'the tenant, or the principal or address of a caller without one'],
  account: [['account'], 'the account'],
  operation: [['operation'], 'the operation'],
  global: [[], '']
}

/**
 * The key of a budget. Throws `MARTY_RATE_LIMIT_BUDGET_INVALID` unless the members are those that the rule counts by.
 */
export function budgetOf (name: BudgetName, by: LimitBy): string {
  const { rule, address, principal, tenant, account, operation } = name
  const wrong = (problem: string): Error => new BudgetInvalid(`rule "${rule}" counts by ${by}: ${problem}`)
  const known = new Set<Word>()
  for (const part of by.split('+')) {
    const [words, what] = PARTS[part]!
    for (const word of words) known.add(word)
    if (words.length > 0 && words.filter(word => name[word] !== undefined).length !== 1) throw wrong(`name ${what}`)
  }
  for (const [words] of Object.values(PARTS)) {
    const idle = words.find(word => name[word] !== undefined && !known.has(word))
    if (idle !== undefined) throw wrong(`no ${idle} belongs to it`)
  }
  if (address !== undefined && addressKey(address) === 'unknown' && address !== 'unknown') {
    throw wrong(`"${address}" is no address`)
  }
  const claims = tenant === undefined ? {} : { tenant }
  return budgetKey(
    rule,
    subjectOf(by, {
      address: address ?? null,
      principal: { ...ANONYMOUS, ...principal, claims },
      operation: operation ?? '',
      account
    })
  )
}

/** The key of one budget. It is unique, because rule names contain no colon. */
export function budgetKey (rule: string, subject: string): string {
  return `${rule}:${subject}`
}

/** Names of the rules of `@fastify/rate-limit` begin with a character that our rule names cannot contain. */
export function isBudgetKey (text: string): boolean {
  return /^(?:[A-Za-z][\w.-]{0,63}|@fastify\/rate-limit(?::refused)?):./s.test(text)
}

/** The window in the key of a budget of `@fastify/rate-limit`, in milliseconds; null for any other budget. */
export function windowIn (key: string): number | null {
  const found = /^@fastify\/rate-limit:(\d+):/.exec(key)
  return found === null ? null : Number(found[1])
}

export function ruleOf (key: string): string {
  return key.slice(0, key.indexOf(':'))
}

export function subjectIn (key: string): string {
  return key.slice(key.indexOf(':') + 1)
}
