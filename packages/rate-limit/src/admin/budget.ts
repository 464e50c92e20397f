import { addressKey, ANONYMOUS, type Principal } from '@marty/core'
import { BudgetInvalid } from '../errors.js'
import { subjectOf, type LimitBy } from '../subject.js'

/** A budget in words. A rule by principal counts callers without an identity by their address. */
export interface BudgetName {
  readonly rule: string
  readonly address?: string
  /** `roles` are needed only to know a limit that depends on them. */
  readonly principal?: Pick<Principal, 'kind' | 'id'> & Partial<Pick<Principal, 'roles'>>
  readonly tenant?: string
  /** As the service spells it when it charges. */
  readonly account?: string
  /** The operation's name: `GET /cameras/:id` or `take_snapshot`. */
  readonly operation?: string
}

type Word = Exclude<keyof BudgetName, 'rule'>

/** For each part of `by` the words that may say it, one of them, and how to ask for it. */
const PARTS: Readonly<Record<string, readonly [readonly Word[], string]>> = {
  address: [['address'], 'the address'],
  principal: [['principal', 'address'], 'the principal, or the address of a caller without an identity'],
  apiKey: [['principal'], 'the principal of the key, such as key:ID'],
  tenant: [['tenant', 'principal', 'address'], 'the tenant, or the principal or address of a caller without one'],
  account: [['account'], 'the account'],
  operation: [['operation'], 'the operation'],
  global: [[], '']
}

/** The key of a budget. Throws `MARTY_RATE_LIMIT_BUDGET_INVALID` unless the words are those the rule counts by. */
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

/** The name of one budget, unique because names of rules hold no colon. */
export function budgetKey (rule: string, subject: string): string {
  return `${rule}:${subject}`
}

/** Rules of `@fastify/rate-limit` begin with a sign that no rule of ours may have. */
export function isBudgetKey (text: string): boolean {
  return /^(?:[A-Za-z][\w.-]{0,63}|@fastify\/rate-limit(?::refused)?):./s.test(text)
}

/** The window that a budget of `@fastify/rate-limit` names in its key, in milliseconds; null for any other. */
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
