import { checkOptions, ORIGIN, type OptionTable, type SecurityRule } from '@marty/core'
import { API_KEY_OPTIONS, type ApiKeyOptions, type CheckedApiKeyOptions } from './api-keys/options.js'
import {
  resolveCheckedTokens, TOKEN_OPTIONS, type CheckedTokenOptions, type ResolvedTokenOptions, type TokenOptions
} from './jwt/options.js'
import {
  TRUSTED_ISSUER_OPTIONS, type CheckedTrustedIssuerOptions, type TrustedIssuerOptions
} from './jwt/trusted-issuers.js'
import { LOCKOUT_OPTIONS, type LockoutOptions } from './lockout/options.js'
import { MTLS_OPTIONS, type CheckedMtlsOptions, type MtlsOptions } from './mtls/options.js'
import { SCOPE } from './option-scope.js'
import {
  resolveSessionOptions, SESSION_OPTIONS, type CheckedSessionOptions, type ResolvedSessionOptions, type SessionOptions
} from './sessions/options.js'
import { STORE, type AuthStore, type ResolvedAuthStore } from './store-options.js'
import {
  REFRESH_OPTIONS, resolveRefreshOptions, type RefreshOptions, type ResolvedRefreshOptions
} from './tokens/refresh/options.js'

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
  readonly trustedIssuers: readonly CheckedTrustedIssuerOptions[] | undefined
  /** Those of the plugin and those of its sessions. */
  readonly trustedOrigins: readonly string[]
  readonly lockout: LockoutOptions | null
  readonly mtls: MtlsOptions | null
  readonly routes: { readonly introspection: SecurityRule | null } | null
}

interface CheckedAuthOptions extends CheckedTokenOptions {
  readonly apiKeys: CheckedApiKeyOptions | undefined
  readonly sessions: CheckedSessionOptions | false
  readonly store: ResolvedAuthStore
  readonly trustedIssuers: readonly CheckedTrustedIssuerOptions[] | undefined
  readonly refresh: Required<RefreshOptions> | false
  readonly trustedOrigins: readonly string[]
  readonly lockout: Required<LockoutOptions> | false
  readonly mtls: CheckedMtlsOptions | undefined
  readonly routes: boolean | { readonly introspection: SecurityRule }
}

export const OPTIONS: OptionTable<AuthOptions, CheckedAuthOptions> = {
  ...TOKEN_OPTIONS,
  trustedIssuers: {
    kind: 'list',
    items: { kind: 'object', options: TRUSTED_ISSUER_OPTIONS },
    optional: true,
    about: 'Other issuers whose tokens are accepted: see [Trusted issuers](#trusted-issuers).'
  },
  apiKeys: { kind: 'object', options: API_KEY_OPTIONS, optional: true, about: 'Accept API keys.' },
  sessions: {
    kind: 'object',
    or: [false],
    options: SESSION_OPTIONS,
    default: {},
    defaultText: 'on, as below',
    about: 'Limits and the cookie of sessions; `false` turns sessions off.'
  },
  store: STORE,
  trustedOrigins: {
    kind: 'list',
    items: ORIGIN,
    default: [],
    about: "Origins whose pages may use the routes under `/auth`, in addition to the service's own origin. If a proxy " +
      'changes `Host`, name the public origin here; this also applies to the session cookie. Compared exactly.'
  },
  refresh: {
    kind: 'object',
    or: [false],
    options: REFRESH_OPTIONS,
    default: false,
    about: 'Issue refresh tokens; `false` issues none.'
  },
  lockout: {
    kind: 'object',
    or: [false],
    options: LOCKOUT_OPTIONS,
    default: {},
    defaultText: 'on, as below',
    about: 'Limits on guessing secrets; `false` turns the lockout off.'
  },
  mtls: {
    kind: 'object',
    options: MTLS_OPTIONS,
    optional: true,
    about: 'Accept client certificates of known services.'
  },
  routes: {
    kind: 'object',
    or: [true, false],
    options: {
      introspection: {
        kind: 'custom',
        expected: 'a rule such as { authenticate: true }',
        accepts: value => typeof value === 'object' && value !== null,
        about: 'Which callers may use `POST /auth/introspect`; with `true`, API keys and client certificates.'
      }
    },
    default: false,
    about: 'Register the routes under `/auth` and, with asymmetric keys, `/.well-known/jwks.json`.'
  }
}

/** Checks the options and fills in the defaults. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveOptions (options: AuthOptions): ResolvedAuthOptions {
  const checked = checkOptions(OPTIONS, options, { ...SCOPE, isPlugin: true })
  const { sessions, refresh, lockout, routes } = checked
  const sessionLimits = resolveSessionOptions(sessions === false ? {} : sessions)
  return Object.freeze({
    tokens: resolveCheckedTokens(checked),
    apiKeys: checked.apiKeys ?? null,
    sessions: sessions === false ? null : sessions,
    sessionLimits,
    store: checked.store,
    refresh: refresh === false ? null : resolveRefreshOptions(refresh),
    trustedIssuers: checked.trustedIssuers,
    trustedOrigins: [...checked.trustedOrigins, ...sessionLimits.trustedOrigins],
    lockout: lockout === false ? null : lockout,
    mtls: checked.mtls ?? null,
    routes: resolveRoutes(routes)
  })
}

function resolveRoutes (routes: CheckedAuthOptions['routes']): ResolvedAuthOptions['routes'] {
  if (typeof routes !== 'boolean') return routes
  return routes ? { introspection: null } : null
}
