import { hash } from 'node:crypto'
import { isIPv4, isIPv6 } from 'node:net'
import type { Principal } from '@marty/core'

/** Whose budget a rule counts. */
export type LimitBy = 'address' | 'principal' | 'operation' | 'principal+operation' | 'address+operation' | 'global'

/** Who does what, as the limiter sees it. */
export interface LimitSubject {
  /** The peer's address after trusted proxies; null when there is none. */
  readonly address: string | null
  readonly principal: Principal
  /** The operation's name: `GET /cameras/:id` or `take_snapshot`, never the raw URL. */
  readonly operation: string
}

/**
 * The identity of a budget under one rule. Parts are length-prefixed, so that no name, whatever
 * characters it holds, runs into another client's budget; long material is hashed.
 */
export function subjectOf (by: LimitBy, subject: LimitSubject): string {
  switch (by) {
    case 'global': return 'global'
    case 'operation': return bounded(`operation:${subject.operation}`)
    case 'address': return `address:${normalizeAddress(subject.address)}`
    case 'address+operation': return bounded(`address:${normalizeAddress(subject.address)} ${subject.operation}`)
    case 'principal': return bounded(whom(subject))
    case 'principal+operation': return bounded(`${whom(subject)} ${subject.operation}`)
  }
}

/** Ids are unique within their kind only; a caller without an identity is known by the address. */
function whom ({ principal, address }: LimitSubject): string {
  return principal.kind === 'anonymous'
    ? `address:${normalizeAddress(address)}`
    : `${principal.kind}:${principal.id.length}:${principal.id}`
}

const MAX_SUBJECT_LENGTH = 160

function bounded (subject: string): string {
  return subject.length <= MAX_SUBJECT_LENGTH ? subject : `sha256:${hash('sha256', subject, 'base64url')}`
}

/**
 * The address as one client counts: IPv4 as it is, also when mapped into IPv6; IPv6 by its /64, because one
 * subscriber owns all of it; ports and zones stripped. `unknown` for anything that is not an address, so that
 * nonsense buys nobody a fresh budget.
 */
export function normalizeAddress (address: string | null | undefined): string {
  if (typeof address !== 'string' || address.length > 80) return 'unknown'
  const host = stripPort(address)
  if (isIPv4(host)) return host
  const zone = host.indexOf('%')
  const plain = zone === -1 ? host : host.slice(0, zone)
  if (!isIPv6(plain)) return 'unknown'
  const groups = expand(plain)
  if (groups.slice(0, 5).every(group => group === 0) && groups[5] === 0xffff) return dotted(groups[6]!, groups[7]!)
  return `${groups.slice(0, 4).map(group => group.toString(16)).join(':')}::/64`
}

function stripPort (address: string): string {
  if (address.startsWith('[')) return address.slice(1, Math.max(1, address.indexOf(']')))
  const colon = address.indexOf(':')
  const isPort = colon !== -1 && colon === address.lastIndexOf(':')
  return isPort ? address.slice(0, colon) : address
}

/** The eight groups of a valid IPv6 address. */
function expand (address: string): number[] {
  const [head = '', tail] = address.split('::')
  const left = groupsOf(head)
  if (tail === undefined) return left
  const right = groupsOf(tail)
  return [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right]
}

function groupsOf (part: string): number[] {
  if (part === '') return []
  return part.split(':').flatMap(group => {
    if (!group.includes('.')) return [parseInt(group, 16)]
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
    return [a * 256 + b, c * 256 + d]
  })
}

function dotted (high: number, low: number): string {
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
}
