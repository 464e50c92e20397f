import { addressKey, ANONYMOUS, type Principal } from '@marty/core'
import { BudgetInvalid } from './errors.js'
import { subjectOf, type LimitBy } from './subject.js'

/** A budget in words. A rule by principal counts callers without an identity by their address. */
export interface BudgetName {
  readonly rule: string
  readonly address?: string
  /** `roles` are needed only to know a limit that depends on them. */
  readonly principal?: Pick<Principal, 'kind' | 'id'> & Partial<Pick<Principal, 'roles'>>
  /** The operation's name: `GET /cameras/:id` or `take_snapshot`. */
  readonly operation?: string
}

/** The key of a budget. Throws `MARTY_RATE_LIMIT_BUDGET_INVALID` unless the words are those the rule counts by. */
export function budgetOf (name: BudgetName, by: LimitBy): string {
  const { rule, address, principal, operation } = name
  const parts = by.split('+')
  const wrong = (problem: string): Error => new BudgetInvalid(`rule "${rule}" counts by ${by}: ${problem}`)
  if (parts.includes('address') && address === undefined) throw wrong('name the address')
  if (parts.includes('principal') && (address === undefined) === (principal === undefined)) throw wrong('name the principal, or the address of a caller without an identity')
  if (parts.includes('operation') && operation === undefined) throw wrong('name the operation')
  if (address !== undefined && !parts.includes('address') && !parts.includes('principal')) throw wrong('no address belongs to it')
  if (principal !== undefined && !parts.includes('principal')) throw wrong('no principal belongs to it')
  if (operation !== undefined && !parts.includes('operation')) throw wrong('no operation belongs to it')
  if (address !== undefined && addressKey(address) === 'unknown' && address !== 'unknown') throw wrong(`"${address}" is no address`)
  return budgetKey(rule, subjectOf(by, { address: address ?? null, principal: { ...ANONYMOUS, ...principal }, operation: operation ?? '' }))
}

/** The name of one budget, unique because names of rules hold no colon. */
export function budgetKey (rule: string, subject: string): string {
  return `${rule}:${subject}`
}

export function ruleOf (key: string): string {
  return key.slice(0, key.indexOf(':'))
}

export function subjectIn (key: string): string {
  return key.slice(key.indexOf(':') + 1)
}
