import { hash } from 'node:crypto'
import { addressKey, type Principal } from '@marty/core'

/** What a rule counts by. */
export type LimitBy =
  | 'address'
  | 'principal'
  | 'operation'
  | 'principal+operation'
  | 'address+operation'
  | 'global'
  | 'apiKey'
  | 'tenant'
  | 'account'
  | 'account+address'

/** The caller and the operation that the limiter counts. */
export interface LimitSubject {
  /** The peer's address after trusted proxies; null when there is none. */
  readonly address: string | null
  readonly principal: Principal
  /** The operation's name: `GET /cameras/:id` or `take_snapshot`, never the raw URL. */
  readonly operation: string
  /** The account that the caller claims to own, before this is verified. */
  readonly account?: string | undefined
}

/**
 * The identity of a budget within one rule. Parts are length-prefixed, so that no name, whatever characters it
 * contains, can collide with another client's budget. Long subjects are hashed.
 */
export function subjectOf (by: LimitBy, subject: LimitSubject, tenantClaim: string = 'tenant'): string {
  switch (by) {
    case 'global': return 'global'
    case 'operation': return bounded(`operation:${subject.operation}`)
    case 'address': return `address:${addressKey(subject.address)}`
    case 'address+operation': return bounded(`address:${addressKey(subject.address)} ${subject.operation}`)
    case 'principal':
    case 'apiKey': return whom(subject)
    case 'tenant': return bounded(tenant(subject, tenantClaim))
    case 'account': return bounded(account(subject))
    case 'account+address': return bounded(`${account(subject)} ${addressKey(subject.address)}`)
    case 'principal+operation': return bounded(`${whom(subject)} ${subject.operation}`)
  }
}

/**
 * Caches the subject of each principal: a frequent caller is the same object each time. V8 would have to hash a newly
 * built string again for every map lookup.
 */
const subjects = new WeakMap<Principal, string>()

/** Ids are unique only within their kind. A caller without an identity is identified by its address. */
function whom ({ principal, address }: LimitSubject): string {
  if (principal.kind === 'anonymous') return `address:${addressKey(address)}`
  let subject = subjects.get(principal)
  if (subject === undefined) {
    subject = bounded(`${principal.kind}:${principal.id.length}:${principal.id}`)
    if (Object.isFrozen(principal)) subjects.set(principal, subject)
  }
  return subject
}

/** A tenant is a non-empty string; a caller without one is counted by principal. */
function tenant (subject: LimitSubject, claim: string): string {
  const { claims } = subject.principal
  const name = Object.hasOwn(claims, claim) ? claims[claim] : undefined
  return typeof name === 'string' && name !== '' ? `tenant:${name.length}:${name}` : whom(subject)
}

function account ({ account = '' }: LimitSubject): string {
  return `account:${account.length}:${account}`
}

const MAX_SUBJECT_LENGTH = 160

export function bounded (subject: string): string {
  return subject.length <= MAX_SUBJECT_LENGTH ? subject : `sha256:${hash('sha256', subject, 'base64url')}`
}
