import { closest } from '@marty/core'
import { AuthOptionInvalid } from '../errors.js'
import { resolveSessionCookie, type ResolvedSessionCookie, type SessionCookieOptions } from './cookie.js'
import { integerOption } from '../jwt/options.js'

export interface SessionOptions {
  /** A session that is not used for this long ends. Seconds. @default 1800 */
  readonly idleSeconds?: number
  /** A session ends after this time, even if it is in use. Seconds. @default 43200 */
  readonly absoluteSeconds?: number
  /**
   * Maximum number of sessions of one principal, at most 1000. A new session beyond it ends the least
   * recently used one.
   * @default 16
   */
  readonly maxPerPrincipal?: number
  /**
   * Maximum number of sessions in memory; beyond it, no new session is created. In Redis,
   * `maxPerPrincipal` and the idle limit are the bound.
   * @default 10000
   */
  readonly maxSessions?: number
  /** Name and `SameSite` of the session cookie. @default { name: '__Host-session', sameSite: 'Strict' } */
  readonly cookie?: SessionCookieOptions
  /** Like the plugin's own `trustedOrigins`; the two lists are combined. @default [] */
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

/** Checks a list of origins, empty by default. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
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
