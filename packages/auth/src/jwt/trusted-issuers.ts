import { optionsInvalid, type OptionTable, type Principal } from '@marty/core'
import { hash } from 'node:crypto'
import { SCOPE, YEAR } from '../option-scope.js'
import type { AsymmetricAlgorithmName } from './algorithms.js'
import {
  isRoles, principalOfTrustedIssuer, readTrustedIssuerClaims, type TrustedIssuerClaimRules, type TrustedIssuerClaims
} from './claims.js'
import { TRUSTED_ISSUER_KID } from './keys.js'
import type { ResolvedTokenOptions } from './options.js'
import { RemoteJwks } from './remote-jwks.js'
import { verifySignature, parseHeader, parsePayload, invalidToken, splitToken } from './verify.js'

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

type DefaultedOption = 'audienceClaim' | 'typ' | 'requireJti' | 'requiredClaims' | 'rolesOf'

export interface CheckedTrustedIssuerOptions extends
  Required<Pick<TrustedIssuerOptions, 'issuer' | 'jwksUrl' | 'algorithms' | DefaultedOption>> {
  readonly audience: string | undefined
  readonly maxLifetimeSeconds: number | undefined
  readonly ca: string | Buffer | undefined
}

const TYPES: readonly unknown[] = ['at+jwt', 'JWT', null]
const MAX_REQUIRED_CLAIMS = 32

export const TRUSTED_ISSUER_OPTIONS: OptionTable<TrustedIssuerOptions, CheckedTrustedIssuerOptions> = {
  issuer: {
    kind: 'string',
    maxLength: 256,
    // Principals are named `issuer|subject`. With a bar in an issuer's name, two issuers could produce the same name.
    verify: issuer => issuer.includes('|') ? 'must not contain "|"' : null,
    about: 'Its `iss`, compared exactly.'
  },
  jwksUrl: {
    kind: 'string',
    pattern: { test: url => URL.canParse(url) && new URL(url).protocol === 'https:' },
    expected: 'an https: URL',
    about: 'The URL of its keys.'
  },
  algorithms: {
    kind: 'list',
    min: 1,
    items: { kind: 'choice', choices: ['ES256', 'EdDSA', 'RS256', 'PS256'] },
    about: 'The algorithms that its keys may have.'
  },
  audience: {
    kind: 'string',
    maxLength: 256,
    optional: true,
    defaultText: "the plugin's",
    about: 'The audience its tokens must have.'
  },
  audienceClaim: {
    kind: 'choice',
    choices: ['aud', 'client_id'],
    default: 'aud',
    about: 'The claim that names the audience. With `client_id`, an `aud` in the token must name it too.'
  },
  typ: {
    kind: 'custom',
    expected: '"at+jwt", "JWT", null for no `typ`, or a list of these',
    accepts: value => Array.isArray(value)
      ? value.length > 0 && value.every(type => TYPES.includes(type))
      : TYPES.includes(value),
    default: 'at+jwt',
    about: 'The `typ` of its tokens.'
  },
  requireJti: {
    kind: 'boolean',
    default: true,
    about: 'Whether tokens without `jti` are refused. A token without one is identified by the SHA-256 of its header ' +
      'and claims.'
  },
  maxLifetimeSeconds: {
    kind: 'integer',
    min: 1,
    max: YEAR,
    optional: true,
    defaultText: "the plugin's",
    about: 'Tokens with a longer lifetime are refused. Revocations are kept as long.'
  },
  requiredClaims: {
    kind: 'custom',
    expected: `an object of at most ${MAX_REQUIRED_CLAIMS} strings, numbers and booleans`,
    accepts: isRequiredClaims,
    default: {},
    about: "Additional claims its tokens must have, compared exactly: `{ hd: 'example.com' }`."
  },
  rolesOf: {
    kind: 'function',
    expected: 'a function from claims to a list of roles',
    default: () => [],
    defaultText: 'no roles',
    about: 'Maps claims to roles; if it throws, the token is refused.'
  },
  ca: {
    kind: 'custom',
    expected: 'a certificate in PEM',
    accepts: value => typeof value === 'string' || Buffer.isBuffer(value),
    optional: true,
    defaultText: 'the default authorities',
    about: 'The certificate authority of `jwksUrl`.'
  }
}

/**
 * Creates the verifier; null when no other issuers are configured. Throws `MARTY_AUTH_OPT_INVALID`
 * naming the field.
 */
export function createTrustedIssuerVerifier (
  options: readonly CheckedTrustedIssuerOptions[] | undefined,
  tokens: ResolvedTokenOptions
): TrustedIssuerVerifier | null {
  if (options === undefined) return null
  const issuers = new Map<string, Issuer>()
  for (const [index, checked] of options.entries()) {
    const { issuer } = checked
    if (issuer === tokens.issuer || issuers.has(issuer)) {
      const field = `trustedIssuers[${index}].issuer`
      throw optionsInvalid(SCOPE, [{ field, problem: `repeats an issuer: "${issuer}"` }])
    }
    issuers.set(issuer, resolveIssuer(checked, tokens))
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

function resolveIssuer (options: CheckedTrustedIssuerOptions, ours: ResolvedTokenOptions): Issuer {
  const { issuer, jwksUrl, algorithms, audienceClaim, typ, requireJti, requiredClaims, rolesOf, ca } = options
  return {
    issuer,
    audience: options.audience ?? ours.audience,
    audienceClaim,
    clockSkewSeconds: ours.clockSkewSeconds,
    maxLifetimeSeconds: options.maxLifetimeSeconds ?? ours.maxLifetimeSeconds,
    types: (Array.isArray(typ) ? [...typ] : [typ]) as readonly TrustedIssuerTokenType[],
    requireJti,
    requiredClaims: Object.entries(requiredClaims),
    rolesOf,
    jwks: new RemoteJwks({ url: new URL(jwksUrl), algorithms: [...algorithms], ...(ca === undefined ? {} : { ca }) })
  }
}

function isRequiredClaims (value: unknown): value is Readonly<Record<string, string | number | boolean>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const values = Object.values(value)
  const isPlain = (one: unknown): boolean => ['string', 'number', 'boolean'].includes(typeof one)
  return values.length <= MAX_REQUIRED_CLAIMS && values.every(isPlain)
}
