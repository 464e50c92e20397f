import { closest } from '@marty/core'
import type { ApiKeyOptions } from './api-key-options.js'
import { AuthOptionInvalid } from './errors.js'
import type { ForeignIssuerOptions } from './foreign-issuers.js'
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
  /** Other issuers whose tokens are accepted. @default none */
  readonly issuers?: readonly ForeignIssuerOptions[]
  /** Register `GET /auth/me` and, with asymmetric keys, `GET /.well-known/jwks.json`. @default false */
  readonly routes?: boolean
}

export interface ResolvedAuthOptions {
  readonly tokens: ResolvedTokenOptions
  readonly apiKeys: ApiKeyOptions | null
  readonly sessions: SessionOptions | null
  readonly store: ResolvedAuthStore
  readonly routes: boolean
}

const FIELDS = ['issuer', 'audience', 'keys', 'accessTokenTtlSeconds', 'maxLifetimeSeconds', 'clockSkewSeconds', 'apiKeys', 'sessions', 'store', 'issuers', 'routes']

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
  return Object.freeze({ tokens, apiKeys: options.apiKeys ?? null, sessions: sessions === false ? null : sessions, store: resolveStore(options.store), routes: options.routes ?? false })
}
