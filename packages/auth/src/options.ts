import { closest, type SecurityRule } from '@marty/core'
import type { ApiKeyOptions } from './api-keys/options.js'
import { AuthOptionInvalid } from './errors.js'
import type { ForeignIssuerOptions } from './jwt/trusted-issuers.js'
import { resolveLockout, type LockoutOptions } from './lockout/options.js'
import type { MtlsOptions } from './mtls/options.js'
import { resolveRefreshOptions, type RefreshOptions, type ResolvedRefreshOptions } from './tokens/refresh/options.js'
import { originsOption, type SessionOptions } from './sessions/options.js'
import { resolveStore, type AuthStore, type ResolvedAuthStore } from './store-options.js'
import { resolveTokenOptions, type ResolvedTokenOptions, type TokenOptions } from './jwt/options.js'

export interface AuthOptions extends TokenOptions {
  /** Accept API keys. @default none are accepted */
  readonly apiKeys?: ApiKeyOptions
  /** Limits of sessions and how browsers carry them; `false` for none. @default { idleSeconds: 1800, absoluteSeconds: 43200 } */
  readonly sessions?: SessionOptions | false
  /** Where refresh tokens, revocations, sessions and lockouts are kept. @default 'memory' */
  readonly store?: AuthStore
  /** Other issuers whose tokens are accepted, and taken in exchange for ours. @default none */
  readonly issuers?: readonly ForeignIssuerOptions[]
  /** Issue refresh tokens; `false` for none. @default false */
  readonly refresh?: RefreshOptions | false
  /**
   * Origins whose pages may use the routes under `/auth`, besides the one in the `Host` header: because a proxy changes that,
   * for session cookies too, or because they are pages of yours elsewhere. `https://console.example.com`, compared exactly.
   * @default []
   */
  readonly trustedOrigins?: readonly string[]
  /** When guessing is slowed down and locked out; `false` for never. @default { maxFailures: 5, windowSeconds: 900, lockSeconds: 900 } */
  readonly lockout?: LockoutOptions | false
  /** Accept client certificates of known services. The server must ask for them and verify them: `https: { requestCert: true, ca }`. @default none are accepted */
  readonly mtls?: MtlsOptions
  /**
   * Register the routes under `/auth` and, with asymmetric keys, `GET /.well-known/jwks.json`; see the README.
   * `introspection` says who may ask about tokens.
   * @default false; with `true`, introspection is for API keys and client certificates
   */
  readonly routes?: boolean | { readonly introspection: SecurityRule }
}

export interface ResolvedAuthOptions {
  readonly tokens: ResolvedTokenOptions
  readonly apiKeys: ApiKeyOptions | null
  readonly sessions: SessionOptions | null
  readonly store: ResolvedAuthStore
  readonly refresh: ResolvedRefreshOptions | null
  readonly trustedOrigins: readonly string[]
  readonly lockout: LockoutOptions | null
  readonly mtls: MtlsOptions | null
  readonly routes: { readonly introspection: SecurityRule | null } | null
}

const FIELDS = [
  'issuer', 'audience', 'keys', 'accessTokenTtlSeconds', 'maxLifetimeSeconds', 'clockSkewSeconds', 'apiKeys',
  'sessions', 'store', 'issuers', 'refresh', 'trustedOrigins', 'lockout', 'mtls', 'routes'
]

/** Checks the options and fills in the defaults. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveOptions (options: AuthOptions): ResolvedAuthOptions {
  for (const field of Object.keys(options ?? {})) {
    // Fastify passes its own register options along.
    if (FIELDS.includes(field) || ['prefix', 'logLevel', 'logSerializers'].includes(field)) continue
    const near = closest(field, FIELDS)
    throw new AuthOptionInvalid(
      `auth option "${field}" is not known` +
        (near === null ? `; known are ${FIELDS.join(', ')}` : `; did you mean "${near}"?`)
    )
  }
  const tokens = resolveTokenOptions(options)
  const { sessions = {} } = options
  if (sessions !== false && (typeof sessions !== 'object' || sessions === null)) {
    throw new AuthOptionInvalid('auth option "sessions" must be an object or false')
  }
  return Object.freeze({
    tokens,
    apiKeys: options.apiKeys ?? null,
    sessions: sessions === false ? null : sessions,
    store: resolveStore(options.store),
    refresh: resolveRefreshOptions(options.refresh),
    trustedOrigins: originsOption('trustedOrigins', options.trustedOrigins),
    lockout: resolveLockout(options.lockout),
    mtls: options.mtls ?? null,
    routes: resolveRoutes(options.routes)
  })
}

function resolveRoutes (routes: AuthOptions['routes'] = false): ResolvedAuthOptions['routes'] {
  if (typeof routes === 'boolean') return routes ? { introspection: null } : null
  if (typeof routes?.introspection !== 'object' || routes.introspection === null) {
    throw new AuthOptionInvalid('auth option "routes" must be true, false or { introspection: rule }')
  }
  return routes
}
