import { closest, type SecurityRule } from '@marty/core'
import type { ApiKeyOptions } from './api-keys/options.js'
import { AuthOptionInvalid } from './errors.js'
import type { TrustedIssuerOptions } from './jwt/trusted-issuers.js'
import { resolveLockout, type LockoutOptions } from './lockout/options.js'
import type { MtlsOptions } from './mtls/options.js'
import { resolveRefreshOptions, type RefreshOptions, type ResolvedRefreshOptions } from './tokens/refresh/options.js'
import {
  originsOption, resolveSessionOptions, type ResolvedSessionOptions, type SessionOptions
} from './sessions/options.js'
import { resolveStore, type AuthStore, type ResolvedAuthStore } from './store-options.js'
import { resolveTokenOptions, type ResolvedTokenOptions, type TokenOptions } from './jwt/options.js'

export interface AuthOptions extends TokenOptions {
  /** Accept API keys. @default none are accepted */
  readonly apiKeys?: ApiKeyOptions
  /**
   * Session limits and the session cookie; `false` turns sessions off.
   * @default { idleSeconds: 1800, absoluteSeconds: 43200 }
   */
  readonly sessions?: SessionOptions | false
  /** Where refresh tokens, revocations, sessions and lockout counters are stored. @default 'memory' */
  readonly store?: AuthStore
  /**
   * Other issuers whose tokens are accepted, and can be exchanged for tokens of this service.
   * @default none
   */
  readonly trustedIssuers?: readonly TrustedIssuerOptions[]
  /** Issue refresh tokens; `false` issues none. @default false */
  readonly refresh?: RefreshOptions | false
  /**
   * Origins whose pages may use the routes under `/auth`, in addition to the origin in the `Host`
   * header. List the public origin if a proxy changes `Host` (this also applies to the session cookie),
   * and the origins of your pages on other hosts. Example: `https://console.example.com`, compared
   * exactly.
   * @default []
   */
  readonly trustedOrigins?: readonly string[]
  /**
   * Limits on guessing secrets; `false` turns the lockout off.
   * @default { maxFailures: 5, windowSeconds: 900, lockSeconds: 900 }
   */
  readonly lockout?: LockoutOptions | false
  /**
   * Accept client certificates of known services. The server must request and verify them:
   * `https: { requestCert: true, ca }`.
   * @default none are accepted
   */
  readonly mtls?: MtlsOptions
  /**
   * Register the routes under `/auth` and, with asymmetric keys, `GET /.well-known/jwks.json`; see the
   * README. `introspection` is the rule for callers of `POST /auth/introspect`.
   * @default false; with `true`, introspection is for API keys and client certificates
   */
  readonly routes?: boolean | { readonly introspection: SecurityRule }
}

export interface ResolvedAuthOptions {
  readonly tokens: ResolvedTokenOptions
  readonly apiKeys: ApiKeyOptions | null
  readonly sessions: SessionOptions | null
  /** The limits and the cookie of sessions; the defaults when sessions are turned off. */
  readonly sessionLimits: ResolvedSessionOptions
  readonly store: ResolvedAuthStore
  readonly refresh: ResolvedRefreshOptions | null
  readonly trustedIssuers: readonly TrustedIssuerOptions[] | undefined
  /** Those of the plugin and those of its sessions. */
  readonly trustedOrigins: readonly string[]
  readonly lockout: LockoutOptions | null
  readonly mtls: MtlsOptions | null
  readonly routes: { readonly introspection: SecurityRule | null } | null
}

const FIELDS = [
  'issuer', 'audience', 'keys', 'accessTokenTtlSeconds', 'maxLifetimeSeconds', 'clockSkewSeconds', 'apiKeys',
  'sessions', 'store', 'trustedIssuers', 'refresh', 'trustedOrigins', 'lockout', 'mtls', 'routes'
]

/** Checks the options and fills in the defaults. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveOptions (options: AuthOptions): ResolvedAuthOptions {
  for (const field of Object.keys(options ?? {})) {
    // Fastify passes its own `register` options to the plugin as well.
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
  const sessionLimits = resolveSessionOptions(sessions === false ? {} : sessions)
  return Object.freeze({
    tokens,
    apiKeys: options.apiKeys ?? null,
    sessions: sessions === false ? null : sessions,
    sessionLimits,
    store: resolveStore(options.store),
    refresh: resolveRefreshOptions(options.refresh),
    trustedIssuers: options.trustedIssuers,
    trustedOrigins: [...originsOption('trustedOrigins', options.trustedOrigins), ...sessionLimits.trustedOrigins],
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
