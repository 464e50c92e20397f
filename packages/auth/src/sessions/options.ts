import { closest } from '@marty/core'
import { AuthOptionInvalid } from '../errors.js'
import { resolveSessionCookie, type ResolvedSessionCookie, type SessionCookieOptions } from './cookie.js'
import { integerOption } from '../jwt/options.js'

export interface SessionOptions {
  /** A session nobody uses ends after this. Seconds. @default 1800 */
  readonly idleSeconds?: number
  /** A session ends after this, however busy. Seconds. @default 43200 */
  readonly absoluteSeconds?: number
  /** Sessions of one principal, at most 1000; the one used longest ago gives way. @default 16 */
  readonly maxPerPrincipal?: number
  /** Sessions held in memory; beyond, none is made. Redis is bounded by `maxPerPrincipal` and the idle limit. @default 10000 */
  readonly maxSessions?: number
  /** How a browser carries its session. @default { name: '__Host-session', sameSite: 'Strict' } */
  readonly cookie?: SessionCookieOptions
  /** The same as the plugin's own `trustedOrigins`; the two lists count together. @default [] */
  readonly trustedOrigins?: readonly string[]
}

export interface ResolvedSessionOptions {
  readonly idleMs: number
  readonly absoluteMs: number
  readonly maxPerPrincipal: number
  readonly maxSessions: number
  readonly cookie: ResolvedSessionCookie
  readonly trustedOrigins: readonly string[]
}

const FIELDS = ['idleSeconds', 'absoluteSeconds', 'maxPerPrincipal', 'maxSessions', 'cookie', 'trustedOrigins']
const YEAR = 365 * 86_400

/** Checks the options and fills in the defaults. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveSessionOptions (options: SessionOptions): ResolvedSessionOptions {
  for (const field of Object.keys(options)) {
    if (FIELDS.includes(field)) continue
    const near = closest(field, FIELDS)
    throw new AuthOptionInvalid(
      `auth option "sessions.${field}" is not known` +
        (near === null ? `; known are ${FIELDS.join(', ')}` : `; did you mean "${near}"?`)
    )
  }
  return Object.freeze({
    idleMs: integerOption('sessions.idleSeconds', options.idleSeconds, 1, YEAR, 1_800) * 1000,
    absoluteMs: integerOption('sessions.absoluteSeconds', options.absoluteSeconds, 1, YEAR, 43_200) * 1000,
    maxPerPrincipal: integerOption('sessions.maxPerPrincipal', options.maxPerPrincipal, 1, 1_000, 16),
    maxSessions: integerOption('sessions.maxSessions', options.maxSessions, 1, 1_000_000, 10_000),
    cookie: resolveSessionCookie(options.cookie),
    trustedOrigins: originsOption('sessions.trustedOrigins', options.trustedOrigins)
  })
}

/** A list of origins, none by default. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function originsOption (field: string, value: unknown = []): readonly string[] {
  if (!Array.isArray(value) || !value.every(isOrigin)) {
    throw new AuthOptionInvalid(
      `auth option "${field}" must be a list of origins such as "https://console.example.com", without path or ` +
        'trailing slash'
    )
  }
  return Object.freeze([...value as string[]])
}

function isOrigin (value: unknown): boolean {
  return typeof value === 'string' && URL.canParse(value) && new URL(value).origin === value && value !== 'null'
}
