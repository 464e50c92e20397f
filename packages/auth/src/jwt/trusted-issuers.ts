import { closest, type Principal } from '@marty/core'
import { hash } from 'node:crypto'
import { AuthOptionInvalid } from '../errors.js'
import { isAsymmetric, RemoteJwks } from './remote-jwks.js'
import type { AsymmetricAlgorithmName } from './algorithms.js'
import {
  isRoles, principalOfTrustedIssuer, readTrustedIssuerClaims, type TrustedIssuerClaimRules, type TrustedIssuerClaims
} from './claims.js'
import { TRUSTED_ISSUER_KID } from './keys.js'
import { verifySignature, parseHeader, parsePayload, invalidToken, splitToken } from './verify.js'
import { integerOption, stringOption, type ResolvedTokenOptions } from './options.js'

/** Another issuer whose tokens are accepted, such as your company's identity provider. */
export interface TrustedIssuerOptions {
  /** Its `iss`, compared exactly. */
  readonly issuer: string
  /** The `aud` its tokens must carry. @default the plugin's `audience` */
  readonly audience?: string
  /** Where it publishes its keys: `https:` only. Redirects are not followed. */
  readonly jwksUrl: string
  /** The algorithms that its keys may have. */
  readonly algorithms: readonly AsymmetricAlgorithmName[]
  /**
   * The claim that must name the audience. Access tokens of Amazon Cognito have a `client_id` instead
   * of `aud`; if a token also has an `aud`, that must name the audience too.
   * @default 'aud'
   */
  readonly audienceClaim?: 'aud' | 'client_id'
  /**
   * The `typ` of its tokens, or a list; null means no `typ`. Other kinds of tokens use `JWT` or no
   * `typ` too: give this service its own audience, and use `requiredClaims` to tell the kinds apart.
   * @default 'at+jwt'
   */
  readonly typ?: TrustedIssuerTokenType | readonly TrustedIssuerTokenType[]
  /**
   * Whether its tokens must have a `jti`. A token without one is identified, also for revocation, by
   * the SHA-256 of its header and claims.
   * @default true
   */
  readonly requireJti?: boolean
  /**
   * Maximum lifetime of its tokens; those with a longer one are refused. At most a year. Seconds.
   * @default the plugin's `maxLifetimeSeconds`
   */
  readonly maxLifetimeSeconds?: number
  /**
   * Additional claims its tokens must have, compared exactly: `{ token_use: 'access' }`,
   * `{ hd: 'example.com' }`. At most 32.
   * @default {}
   */
  readonly requiredClaims?: Readonly<Record<string, string | number | boolean>>
  /** Maps its claims to roles of this service. @default no roles */
  readonly rolesOf?: (claims: TrustedIssuerClaims) => readonly string[]
  /** The certificate authority of `jwksUrl`, in PEM, to trust instead of the default ones. */
  readonly ca?: string | Buffer
}

export type TrustedIssuerTokenType = 'at+jwt' | 'JWT' | null

/** Verifies tokens of other issuers. */
export interface TrustedIssuerVerifier {
  /** Whether the token claims to be from one of these issuers. This is not verified. Never throws. */
  concerns (token: string): boolean
  /**
   * Returns the principal of such a token: a user with the id `issuer|sub` and only the roles of
   * `rolesOf`.
   * Rejects with `MARTY_CORE_CREDENTIAL_INVALID` for any other string, and with
   * `MARTY_AUTH_ISSUER_UNAVAILABLE` while the issuer's keys are not available.
   */
  verifyAssertion (token: string): Promise<Principal>
  /** The maximum lifetime of an accepted token. Seconds. */
  readonly maxLifetimeSeconds: number
  close (): void
}

interface Issuer extends TrustedIssuerClaimRules {
  readonly types: readonly TrustedIssuerTokenType[]
  readonly rolesOf: (claims: TrustedIssuerClaims) => readonly string[]
  readonly jwks: RemoteJwks
}

const FIELDS = [
  'issuer', 'audience', 'audienceClaim', 'jwksUrl', 'algorithms', 'typ', 'requireJti', 'maxLifetimeSeconds',
  'requiredClaims', 'rolesOf', 'ca'
]
const TYPES: readonly TrustedIssuerTokenType[] = ['at+jwt', 'JWT', null]
const YEAR = 365 * 86_400
const MAX_REQUIRED_CLAIMS = 32

/**
 * Creates the verifier; null when no other issuers are configured. Throws `MARTY_AUTH_OPT_INVALID`
 * naming the field.
 */
export function createTrustedIssuerVerifier (
  options: readonly TrustedIssuerOptions[] | undefined,
  tokens: ResolvedTokenOptions
): TrustedIssuerVerifier | null {
  if (options === undefined) return null
  if (!Array.isArray(options)) throw new AuthOptionInvalid('auth option "trustedIssuers" must be a list')
  const issuers = new Map<string, Issuer>()
  for (const [index, given] of (options as readonly TrustedIssuerOptions[]).entries()) {
    const field = `trustedIssuers[${index}]`
    const issuer = resolveIssuer(field, given, tokens)
    if (issuer.issuer === tokens.issuer || issuers.has(issuer.issuer)) {
      throw new AuthOptionInvalid(`auth option "${field}.issuer" repeats an issuer: "${issuer.issuer}"`)
    }
    issuers.set(issuer.issuer, issuer)
  }
  const issuerOf = (payload: Buffer): Issuer | undefined => issuers.get(parsePayload(payload)['iss'] as string)

  return {
    concerns (token) {
      try {
        return issuerOf(splitToken(token).payload) !== undefined
      } catch {
        return false
      }
    },
    async verifyAssertion (token) {
      const parts = splitToken(token)
      const header = parseHeader(parts, TRUSTED_ISSUER_KID)
      const issuer = issuerOf(parts.payload)
      if (issuer === undefined) throw invalidToken('iss')
      if (!issuer.types.some(type => header.typ === (type ?? undefined))) throw invalidToken('typ')
      const key = await issuer.jwks.find(header.kid)
      if (key === null) throw invalidToken('kid')
      const claims = readTrustedIssuerClaims(verifySignature(parts, header, key), issuer, Math.floor(Date.now() / 1000))
      if (typeof claims === 'string') throw invalidToken(claims)
      // Leave the signature out: for some algorithms, the holder can make another valid one for the same
      // token.
      const tokenId = claims.jti ?? `#${hash('sha256', parts.input, 'base64url')}`
      return principalOfTrustedIssuer(claims, rolesOf(issuer, claims), tokenId)
    },
    maxLifetimeSeconds: Math.max(0, ...[...issuers.values()].map(({ maxLifetimeSeconds }) => maxLifetimeSeconds)),
    close () {
      for (const { jwks } of issuers.values()) jwks.close()
    }
  }
}

/**
 * Maps claims to roles. If the mapping throws on unexpected claims, the token is refused; the answer
 * must not be 500.
 */
function rolesOf (issuer: Issuer, claims: TrustedIssuerClaims): readonly string[] {
  let roles: readonly string[]
  try {
    roles = issuer.rolesOf(claims)
  } catch {
    throw invalidToken('rolesOf')
  }
  if (!isRoles(roles)) throw invalidToken('rolesOf')
  return roles
}

function resolveIssuer (field: string, options: TrustedIssuerOptions, ours: ResolvedTokenOptions): Issuer {
  const { audience, clockSkewSeconds, maxLifetimeSeconds: ourMaxSeconds } = ours
  const refuse = (member: string, reason: string): Error =>
    new AuthOptionInvalid(`auth option "${field}.${member}" ${reason}`)
  if (typeof options !== 'object' || options === null) {
    throw new AuthOptionInvalid(`auth option "${field}" must be { issuer, jwksUrl, algorithms }`)
  }
  for (const member of Object.keys(options)) {
    if (FIELDS.includes(member)) continue
    const near = closest(member, FIELDS)
    throw refuse(
      member,
      `is not known; ${near === null ? `known are ${FIELDS.join(', ')}` : `did you mean "${near}"?`}`
    )
  }
  const { algorithms, typ = 'at+jwt', rolesOf = () => [], ca } = options
  const { audienceClaim = 'aud', requireJti = true, requiredClaims = {} } = options
  const types = (Array.isArray(typ) ? typ : [typ]) as readonly TrustedIssuerTokenType[]
  if (!Array.isArray(algorithms) || algorithms.length === 0 || !algorithms.every(isAsymmetric)) {
    throw refuse('algorithms', 'must be a list of ES256, EdDSA, RS256 or PS256')
  }
  if (!['aud', 'client_id'].includes(audienceClaim)) throw refuse('audienceClaim', 'must be "aud" or "client_id"')
  if (types.length === 0 || !types.every(type => TYPES.includes(type))) {
    throw refuse('typ', 'must be "at+jwt", "JWT", null for none, or a list of these')
  }
  if (typeof requireJti !== 'boolean') throw refuse('requireJti', 'must be true or false')
  if (!isRequiredClaims(requiredClaims)) {
    throw refuse('requiredClaims', `must be an object of at most ${MAX_REQUIRED_CLAIMS} strings, numbers and booleans`)
  }
  if (typeof rolesOf !== 'function') throw refuse('rolesOf', 'must be a function from claims to a list of roles')
  if (ca !== undefined && typeof ca !== 'string' && !Buffer.isBuffer(ca)) {
    throw refuse('ca', 'must be a certificate in PEM')
  }
  const issuer = stringOption(`${field}.issuer`, options.issuer)
  // Principals are named `issuer|subject`. With a bar in an issuer's name, two issuers could produce the
  // same name.
  if (issuer.includes('|')) throw refuse('issuer', 'must not contain "|"')
  const url = URL.canParse(options.jwksUrl) ? new URL(options.jwksUrl) : null
  if (url?.protocol !== 'https:') throw refuse('jwksUrl', 'must be an https: URL')
  return {
    issuer,
    audience: options.audience === undefined ? audience : stringOption(`${field}.audience`, options.audience),
    audienceClaim,
    clockSkewSeconds,
    maxLifetimeSeconds: integerOption(
      `${field}.maxLifetimeSeconds`,
      options.maxLifetimeSeconds,
      1,
      YEAR,
      ourMaxSeconds
    ),
    types: [...types],
    requireJti,
    requiredClaims: Object.entries(requiredClaims),
    rolesOf,
    jwks: new RemoteJwks({ url, algorithms: [...algorithms], ...(ca === undefined ? {} : { ca }) })
  }
}

function isRequiredClaims (value: unknown): value is Readonly<Record<string, string | number | boolean>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const values = Object.values(value)
  const isPlain = (one: unknown): boolean => ['string', 'number', 'boolean'].includes(typeof one)
  return values.length <= MAX_REQUIRED_CLAIMS && values.every(isPlain)
}
