import { closest, type Principal } from '@marty/core'
import { AuthOptionInvalid } from './errors.js'
import { createRemoteJwks, isAsymmetric, type RemoteJwks } from './jwks-remote.js'
import type { AsymmetricAlgorithmName } from './jwt-algorithms.js'
import { isRoles, principalOfForeignClaims, readForeignClaims, type ClaimRules, type TokenClaims } from './jwt-claims.js'
import { prove, readHeader, readPayload, refusedToken, takeApart } from './jwt-door.js'
import { textOption, type ResolvedTokenOptions } from './token-options.js'

/** Another issuer whose tokens are accepted, such as the identity provider of the company. */
export interface ForeignIssuerOptions {
  /** Its `iss`, compared exactly. */
  readonly issuer: string
  /** The `aud` its tokens must carry. @default the plugin's `audience` */
  readonly audience?: string
  /** Where it publishes its keys: `https:` only, redirects are not followed. */
  readonly jwksUrl: string
  /** Algorithms its keys may be for. */
  readonly algorithms: readonly AsymmetricAlgorithmName[]
  /** The `typ` of its tokens. `JWT` is also what other kinds of tokens call themselves: choose an audience of your own. @default 'at+jwt' */
  readonly typ?: 'at+jwt' | 'JWT'
  /** Which roles its claims stand for here. @default none */
  readonly rolesOf?: (claims: TokenClaims) => readonly string[]
  /** The certificate authority of `jwksUrl`, in PEM, trusted instead of the usual ones. */
  readonly ca?: string | Buffer
}

/** The door for tokens of other issuers. */
export interface ForeignDoor {
  /** Whether the token says that one of them issued it. Nothing is proved by that, and nothing thrown. */
  concerns (token: string): boolean
  /**
   * The principal of such a token: id `issuer|sub`, a user, with the roles of `rolesOf` and no others.
   * Rejects with `MARTY_CORE_CREDENTIAL_INVALID` for any other text, and with `MARTY_AUTH_ISSUER_UNAVAILABLE` while
   * the issuer's keys are not known.
   */
  verifyAssertion (token: string): Promise<Principal>
  close (): void
}

interface Issuer extends ClaimRules {
  readonly typ: string
  readonly rolesOf: (claims: TokenClaims) => readonly string[]
  readonly jwks: RemoteJwks
}

const FIELDS = ['issuer', 'audience', 'jwksUrl', 'algorithms', 'typ', 'rolesOf', 'ca']

/** Null when there are no other issuers. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function createForeignDoor (options: readonly ForeignIssuerOptions[] | undefined, tokens: ResolvedTokenOptions): ForeignDoor | null {
  if (options === undefined) return null
  if (!Array.isArray(options)) throw new AuthOptionInvalid('auth option "issuers" must be a list')
  const issuers = new Map<string, Issuer>()
  for (const [index, given] of (options as readonly ForeignIssuerOptions[]).entries()) {
    const field = `issuers[${index}]`
    const issuer = resolveIssuer(field, given, tokens)
    if (issuer.issuer === tokens.issuer || issuers.has(issuer.issuer)) throw new AuthOptionInvalid(`auth option "${field}.issuer" names an issuer twice: "${issuer.issuer}"`)
    issuers.set(issuer.issuer, issuer)
  }
  const issuerOf = (payload: Buffer): Issuer | undefined => issuers.get(readPayload(payload)['iss'] as string)

  return {
    concerns (token) {
      try {
        return issuerOf(takeApart(token).payload) !== undefined
      } catch {
        return false
      }
    },
    async verifyAssertion (token) {
      const parts = takeApart(token)
      const header = readHeader(parts)
      const issuer = issuerOf(parts.payload)
      if (issuer === undefined) throw refusedToken('iss')
      if (header.typ !== issuer.typ) throw refusedToken('typ')
      const key = await issuer.jwks.find(header.kid)
      if (key === null) throw refusedToken('kid')
      const claims = readForeignClaims(prove(parts, header, key), issuer, Math.floor(Date.now() / 1000))
      if (typeof claims === 'string') throw refusedToken(claims)
      return principalOfForeignClaims(claims, rolesOf(issuer, claims))
    },
    close () {
      for (const { jwks } of issuers.values()) jwks.close()
    }
  }
}

/** A mapping that fails over what a stranger put into the claims is no reason to answer 500. */
function rolesOf (issuer: Issuer, claims: TokenClaims): readonly string[] {
  let roles: readonly string[]
  try {
    roles = issuer.rolesOf(claims)
  } catch {
    throw refusedToken('rolesOf')
  }
  if (!isRoles(roles)) throw refusedToken('rolesOf')
  return roles
}

function resolveIssuer (field: string, options: ForeignIssuerOptions, { audience, clockSkewSeconds, maxLifetimeSeconds }: ResolvedTokenOptions): Issuer {
  const refuse = (member: string, reason: string): Error => new AuthOptionInvalid(`auth option "${field}.${member}" ${reason}`)
  if (typeof options !== 'object' || options === null) throw new AuthOptionInvalid(`auth option "${field}" must be { issuer, jwksUrl, algorithms }`)
  for (const member of Object.keys(options)) {
    if (FIELDS.includes(member)) continue
    const near = closest(member, FIELDS)
    throw refuse(member, `is not known; ${near === null ? `known are ${FIELDS.join(', ')}` : `did you mean "${near}"?`}`)
  }
  const { algorithms, typ = 'at+jwt', rolesOf = () => [], ca } = options
  if (!Array.isArray(algorithms) || algorithms.length === 0 || !algorithms.every(isAsymmetric)) throw refuse('algorithms', 'must be a list of ES256, EdDSA, RS256 or PS256')
  if (typ !== 'at+jwt' && typ !== 'JWT') throw refuse('typ', 'must be "at+jwt" or "JWT"')
  if (typeof rolesOf !== 'function') throw refuse('rolesOf', 'must be a function from claims to a list of roles')
  if (ca !== undefined && typeof ca !== 'string' && !Buffer.isBuffer(ca)) throw refuse('ca', 'must be a certificate in PEM')
  const issuer = textOption(`${field}.issuer`, options.issuer)
  // Its callers are named `issuer|subject`: with a bar in the issuer's name, two issuers could mean one caller.
  if (issuer.includes('|')) throw refuse('issuer', 'must not contain "|"')
  const url = URL.canParse(options.jwksUrl) ? new URL(options.jwksUrl) : null
  if (url?.protocol !== 'https:') throw refuse('jwksUrl', 'must be an https: URL')
  return {
    issuer,
    audience: options.audience === undefined ? audience : textOption(`${field}.audience`, options.audience),
    clockSkewSeconds,
    maxLifetimeSeconds,
    typ,
    rolesOf,
    jwks: createRemoteJwks({ url, algorithms: [...algorithms], ...(ca === undefined ? {} : { ca }) })
  }
}
