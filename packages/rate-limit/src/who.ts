import { addressKey, closest, RuleInvalid, type Principal } from '@marty/core'
import type { Who } from './limiter.js'
import type { AppliedRule } from './route-rules.js'
import type { LimitBy } from './subject.js'

/** The parts of a caller that a rule counts by. An identity is a principal, or the address of an anonymous caller. */
type Part = 'address' | 'identity' | 'operation' | 'account'

const PARTS: Readonly<Record<LimitBy, readonly Part[]>> = {
  global: [],
  address: ['address'],
  'address+operation': ['operation', 'address'],
  principal: ['identity'],
  'principal+operation': ['operation', 'identity'],
  tenant: ['identity'],
  operation: ['operation'],
  // A caller without a key is not counted.
  apiKey: [],
  account: ['account'],
  'account+address': ['account', 'address']
}

const NAMES: Readonly<Record<Part, string>> = {
  address: 'an address (null where there is none)',
  identity: 'a principal, or the address of a caller without an identity',
  operation: 'an operation',
  account: 'an account'
}

/**
 * Throws `MARTY_CORE_RULE_INVALID` when `who` does not identify a caller. All callers whose address, account or
 * principal cannot be read would share one budget, and use it up for each other. Runs in every check, so it allocates
 * nothing unless it throws.
 */
export function verifyWho (where: string, who: Who, applied: readonly AppliedRule[]): void {
  if (typeof who !== 'object' || who === null) {
    throw new RuleInvalid(`${where} needs to know who is meant, such as { address: request.ip }`)
  }
  for (const member in who) if (!isMember(member) && Object.hasOwn(who, member)) throw unknownMember(where, member)
  const { address, principal } = who
  if (address !== undefined && address !== null && addressKey(address) === 'unknown') {
    throw new RuleInvalid(`${where} needs an IP address or null as address, not ${JSON.stringify(address)}`)
  }
  if (principal !== undefined && !isPrincipal(principal)) {
    throw new RuleInvalid(`${where} needs a principal with kind, id, roles and claims, such as request.principal`)
  }
  for (const { rule: { name, by } } of applied) {
    for (const part of PARTS[by]) {
      if (has(who, part)) continue
      throw new RuleInvalid(`${where} needs ${NAMES[part]}, by which the rule "${name}" counts`)
    }
  }
}

function has (who: Who, part: Part): boolean {
  switch (part) {
    case 'address': return 'address' in who
    case 'identity': {
      const isAnonymous = who.principal === undefined || who.principal.kind === 'anonymous'
      return !isAnonymous || 'address' in who
    }
    case 'operation': return isText(who.operation)
    case 'account': return isText(who.account)
  }
}

function isText (value: string | undefined): boolean {
  return typeof value === 'string' && value !== ''
}

const MEMBERS: readonly string[] = ['address', 'principal', 'operation', 'account']

function isMember (name: string): boolean {
  return name === 'address' || name === 'principal' || name === 'operation' || name === 'account'
}

function unknownMember (where: string, member: string): Error {
  const near = closest(member, MEMBERS)
  return new RuleInvalid(
    `${where} does not know "${member}"; ` +
      (near === null ? `who is meant is said by ${MEMBERS.join(', ')}` : `did you mean "${near}"?`)
  )
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
