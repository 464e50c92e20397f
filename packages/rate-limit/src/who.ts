import { addressKey, closest, RuleInvalid, type Principal } from '@marty/core'
import type { Who } from './limiter.js'
import type { AppliedRule } from './route-rules.js'

const MEMBERS: readonly string[] = ['address', 'principal', 'operation', 'account']

/**
 * Throws `MARTY_CORE_RULE_INVALID` when `who` does not identify a caller. All callers whose address, account or
 * principal cannot be read would share one budget, and use it up for each other.
 */
export function verifyWho (where: string, who: Who, applied: readonly AppliedRule[]): void {
  const wrong = (problem: string): Error => new RuleInvalid(`${where} ${problem}`)
  if (typeof who !== 'object' || who === null) {
    throw wrong('needs to know who is meant, such as { address: request.ip }')
  }
  for (const member of Object.keys(who)) {
    if (MEMBERS.includes(member)) continue
    const near = closest(member, MEMBERS)
    throw wrong(
      `does not know "${member}"; ` +
        `${near === null ? `who is meant is said by ${MEMBERS.join(', ')}` : `did you mean "${near}"?`}`
    )
  }
  const { address, principal, operation, account } = who
  if (address !== undefined && address !== null && addressKey(address) === 'unknown') {
    throw wrong(`needs an IP address or null as address, not ${JSON.stringify(address)}`)
  }
  if (principal !== undefined && !isPrincipal(principal)) {
    throw wrong('needs a principal with kind, id, roles and claims, such as request.principal')
  }
  for (const { rule: { name, by } } of applied) {
    const parts = by.split('+')
    const lacks = (what: string): Error => wrong(`needs ${what}, by which the rule "${name}" counts`)
    if (parts.includes('account') && (typeof account !== 'string' || account === '')) throw lacks('an account')
    if (parts.includes('operation') && (typeof operation !== 'string' || operation === '')) throw lacks('an operation')
    const isAnonymous = principal === undefined || principal.kind === 'anonymous'
    if (parts.includes('address') || (isAnonymous && parts.some(part => part === 'principal' || part === 'tenant'))) {
      if (!('address' in who)) {
        throw lacks(
          parts.includes('address')
            ? 'an address (null where there is none)'
            : 'a principal, or the address of a caller without an identity'
        )
      }
    }
  }
}

function isPrincipal (value: Principal): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof value.kind === 'string' &&
    typeof value.id === 'string' &&
    Array.isArray(value.roles) &&
    typeof value.claims === 'object' &&
    value.claims !== null
  )
}
