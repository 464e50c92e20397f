import type {
  AuthenticationMethod, Guard, MartyError, SecurityEvent, SecurityRule
} from '@marty/core'
import type { FastifyRequest } from 'fastify'
import type { ApiKeys } from '../../api-keys/api-keys.js'
import { emit } from '../../events.js'
import type { TokenClaims } from '../../jwt/claims.js'
import type { TrustedIssuerVerifier } from '../../jwt/trusted-issuers.js'
import type { Revocations } from '../../revocations/revocations.js'
import type { SessionCookie } from '../../sessions/cookie.js'
import type { SessionStore } from '../../sessions/sessions.js'
import type { TokenIssuer } from '../issuer.js'
import type { RefreshTokens } from '../refresh/refresh-tokens.js'
import type { RefreshGrantAuthenticator } from './authenticators.js'

/** What the token routes use. A part that is turned off is null. */
export interface TokenRouteParts {
  readonly guard: Guard
  readonly issuer: TokenIssuer
  /**
   * Returns the claims of a valid token of this service. Throws `MARTY_CORE_CREDENTIAL_INVALID` for any
   * other string.
   */
  readonly verify: (token: string) => TokenClaims
  readonly revocations: Revocations
  readonly refresh: RefreshParts | null
  readonly apiKeys: ApiKeys | null
  readonly sessions: SessionStore | null
  readonly cookie: SessionCookie | null
  /** The available authentication methods, except refresh tokens and assertions. */
  readonly methods: readonly AuthenticationMethod[]
  readonly trustedIssuers: TrustedIssuerVerifier | null
  /** The rule for introspection; null allows API keys and client certificates, if the service accepts any. */
  readonly introspection: SecurityRule | null
}

export interface RefreshParts {
  readonly tokens: RefreshTokens
  readonly authenticator: RefreshGrantAuthenticator
  /** Whether `client_credentials` also returns a refresh token. */
  readonly forClients: boolean
}

/** Public, because the credential may be in the body. The handler authenticates it with the same pipeline. */
export const CREDENTIAL_IN_BODY = { config: { security: { sameOrigin: true, public: true } } } as const

/** Reports a success of the request to the guard's sinks. */
export function emitFor (
  guard: Guard,
  request: FastifyRequest,
  event: Pick<SecurityEvent, 'type' | 'action' | 'principal'> & { readonly object: string }
): void {
  emit(guard, { ...event, address: request.ip ?? null, requestId: request.id })
}

/** Methods of the list that this service supports. */
export function supported (
  { methods }: Pick<TokenRouteParts, 'methods'>,
  wanted: readonly AuthenticationMethod[]
): readonly AuthenticationMethod[] {
  return wanted.filter(method => methods.includes(method))
}

/** Methods by which clients, rather than users, authenticate. */
export const CLIENT_METHODS: readonly AuthenticationMethod[] = ['apiKey', 'mtls']

/** Returns null for an invalid token. Other errors, such as a store that does not respond, are rethrown. */
export async function nullIfInvalid<T> (verify: () => T | Promise<T>): Promise<T | null> {
  try {
    return await verify()
  } catch (error) {
    if ((error as MartyError).statusCode === 401) return null
    throw error
  }
}
