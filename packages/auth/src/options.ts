import { closest } from '@marty/core'
import type { ApiKeyOptions } from './api-key-options.js'
import { AuthOptionInvalid } from './errors.js'
import { resolveLockout, type LockoutOptions } from './lockout-options.js'
import type { MtlsOptions } from './mtls-options.js'
import type { SessionOptions } from './sessions.js'
import { resolveStore, type AuthStore, type ResolvedAuthStore } from './store-options.js'
import { resolveTokenOptions, type ResolvedTokenOptions, type TokenOptions } from './token-options.js'

export interface AuthOptions extends TokenOptions {
  /** Accept API keys. @default none are accepted */
  readonly apiKeys?: ApiKeyOptions
  /** Limits of the sessions kept in this process; `false` for none. @default { idleSeconds: 1800, absoluteSeconds: 43200 } */
  readonly sessions?: SessionOptions | false
  /** Where refresh tokens, revocations, sessions and lockouts are kept. @default 'memory' */
  readonly store?: AuthStore
  /** When guessing is slowed down and locked out; `false` for never. @default { maxFailures: 5, windowSeconds: 900, lockSeconds: 900 } */
  readonly lockout?: LockoutOptions | false
  /** Accept client certificates of known services. The server must ask for them and verify them: `https: { requestCert: true, ca }`. @default none are accepted */
  readonly mtls?: MtlsOptions
  /** Register `GET /auth/me`. @default false */
  readonly routes?: boolean
}

export interface ResolvedAuthOptions {
  readonly tokens: ResolvedTokenOptions
  readonly apiKeys: ApiKeyOptions | null
  readonly sessions: SessionOptions | null
  readonly store: ResolvedAuthStore
  readonly lockout: LockoutOptions | null
  readonly mtls: MtlsOptions | null
  readonly routes: boolean
}

const FIELDS = ['issuer', 'audience', 'keys', 'accessTokenTtlSeconds', 'maxLifetimeSeconds', 'clockSkewSeconds', 'apiKeys', 'sessions', 'store', 'lockout', 'mtls', 'routes']

/** Checks the options and fills in the defaults. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveOptions (options: AuthOptions): ResolvedAuthOptions {
  for (const field of Object.keys(options ?? {})) {
    // Fastify passes its own register options along.
    if (FIELDS.includes(field) || ['prefix', 'logLevel', 'logSerializers'].includes(field)) continue
    const near = closest(field, FIELDS)
    throw new AuthOptionInvalid(`auth option "${field}" is not known` + (near === null ? `; known are ${FIELDS.join(', ')}` : `; did you mean "${near}"?`))
  }
  const tokens = resolveTokenOptions(options)
  if (options.routes !== undefined && typeof options.routes !== 'boolean') throw new AuthOptionInvalid('auth option "routes" must be true or false')
  const { sessions = {} } = options
  if (sessions !== false && (typeof sessions !== 'object' || sessions === null)) throw new AuthOptionInvalid('auth option "sessions" must be an object or false')
  return Object.freeze({ tokens, apiKeys: options.apiKeys ?? null, sessions: sessions === false ? null : sessions, store: resolveStore(options.store), lockout: resolveLockout(options.lockout), mtls: options.mtls ?? null, routes: options.routes ?? false })
}
