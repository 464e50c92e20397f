import { checkOptions, ORIGIN, type OptionTable } from '@marty/core'
import { SCOPE, YEAR } from '../option-scope.js'
import type { ResolvedSessionCookie, SessionCookieOptions } from './cookie.js'

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

export interface CheckedSessionOptions extends Required<SessionOptions> {
  readonly cookie: ResolvedSessionCookie
}

export const SESSION_OPTIONS: OptionTable<SessionOptions, CheckedSessionOptions> = {
  idleSeconds: {
    kind: 'integer',
    min: 1,
    max: YEAR,
    default: 1_800,
    about: 'A session that is not used for this long ends.'
  },
  absoluteSeconds: {
    kind: 'integer',
    min: 1,
    max: YEAR,
    default: 43_200,
    about: 'A session ends after this time, even if it is in use.'
  },
  maxPerPrincipal: {
    kind: 'integer',
    min: 1,
    max: 1_000,
    default: 16,
    about: 'Maximum number of sessions of one principal; a new one ends the least recently used one.'
  },
  maxSessions: {
    kind: 'integer',
    min: 1,
    max: 1_000_000,
    default: 10_000,
    about: 'Maximum number of sessions in memory; above it, no new session is created. Not used with Redis.'
  },
  cookie: {
    kind: 'object',
    default: {},
    defaultText: 'as below',
    about: 'The session cookie.',
    options: {
      name: {
        kind: 'string',
        pattern: /^__Host-[\w-]{1,64}$/,
        expected: '"__Host-" and 1 to 64 letters, digits, "_" or "-"',
        default: '__Host-session',
        about: 'Name of the cookie.'
      },
      sameSite: { kind: 'choice', choices: ['Strict', 'Lax'], default: 'Strict', about: 'The `SameSite` attribute.' }
    }
  },
  trustedOrigins: {
    kind: 'list',
    items: ORIGIN,
    default: [],
    about: "Like the plugin's own `trustedOrigins`; the two lists are combined."
  }
}

/** Checks the options and fills in the defaults. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveSessionOptions (options: SessionOptions): ResolvedSessionOptions {
  const checked = checkOptions(SESSION_OPTIONS, options, { ...SCOPE, at: 'sessions' })
  const { idleSeconds, absoluteSeconds, ...others } = checked
  return Object.freeze({ ...others, idleMs: idleSeconds * 1000, absoluteMs: absoluteSeconds * 1000 })
}
