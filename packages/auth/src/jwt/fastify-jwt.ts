import fastifyJwt, { type JWT } from '@fastify/jwt'
import { CredentialInvalid, MartyError, Unauthenticated } from '@marty/core'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { randomBytes } from 'node:crypto'
import { credentialsOf } from '../credentials.js'
import { CredentialRequestInvalid } from '../errors.js'
import { isShortString, readClaims } from './claims.js'
import { MAX_TOKEN_CHARS, type VerifiedToken } from './verify.js'
import type { JwtKey, SigningKey } from './keys.js'
import type { JsonObject } from './strict-json.js'
import type { ResolvedTokenOptions } from './options.js'

/** Options of @fastify/jwt calls, flat or as `{ sign }`, `{ verify }`, `{ decode }`. */
type Settings = Readonly<Record<string, unknown>>
type Callback = (error: unknown, value?: unknown) => void

/**
 * The namespace for what @fastify/jwt registers. The functions under the usual names are those of this
 * file, which verify tokens first.
 */
const NAMESPACE = 'unguarded'

/**
 * Registers @fastify/jwt with this service's issuer and audience, so that `fastify.jwt`,
 * `request.jwtVerify()`, `reply.jwtSign()` and `request.user` work as its users expect. Tokens are
 * signed with the current key, and every token first passes the verifier of this package: options of a
 * call can add checks, but never remove one. Whatever is wrong with a token, the error is
 * `MARTY_CORE_CREDENTIAL_INVALID`.
 */
export async function registerFastifyJwt (
  fastify: FastifyInstance,
  options: ResolvedTokenOptions,
  verify: (token: string) => VerifiedToken
): Promise<void> {
  const { issuer, audience, keyring, accessTokenTtlSeconds } = options
  const first = keyring.signing()
  await fastify.register(fastifyJwt, {
    namespace: NAMESPACE,
    secret: { private: privateText(first), public: publicText(first) },
    sign: { iss: issuer, aud: audience, expiresIn: accessTokenTtlSeconds, ...headerOf(first) },
    verify: { algorithms: [first.alg], allowedIss: issuer, allowedAud: audience, cache: false }
  })
  const { [NAMESPACE]: inner } = fastify.jwt as unknown as Readonly<Record<typeof NAMESPACE, JWT>>
  Reflect.deleteProperty(fastify.jwt, NAMESPACE)

  const sign = (payload: unknown, settings?: Settings): unknown => {
    const key = keyring.signing()
    const full = withTokenId(payload) as object
    const token: string =
      settings === undefined && key === first
        ? inner.sign(full)
        : inner.sign(full, { ...settings, ...headerOf(key, settings?.['header']), key: privateText(key) })
    assertAcceptable(token, options)
    return token
  }
  const check = (token: string, settings?: Settings): unknown =>
    withCredentialError(() => {
      const { claims, key } = verify(token)
      // Return a copy: users of @fastify/jwt may add members to the result.
      return settings === undefined
        ? { ...claims }
        : inner.verify(token, { ...settings, key: publicText(key), algorithms: [key.alg] })
    })
  const decode = (token: string, settings?: Settings): unknown => {
    return withCredentialError(() => inner.decode(token, settings))
  }

  Object.assign(fastify.jwt, {
    options: inner.options,
    lookupToken: tokenOf,
    decode,
    sign: (payload: unknown, ...rest: unknown[]) => returnOrCall(rest, settings => sign(payload, settings)),
    verify: (token: string, ...rest: unknown[]) => returnOrCall(rest, settings => check(token, settings))
  })
  fastify.decorateRequest('jwtVerify', function (this: FastifyRequest, ...rest: unknown[]) {
    return promiseOrCall(rest, settings => {
      const wanted = partOf(settings, 'verify')
      const user = check(tokenOf(this, wanted), wanted)
      this.user = user as typeof this.user
      return user
    })
  } as never)
  fastify.decorateRequest('jwtDecode', function (this: FastifyRequest, ...rest: unknown[]) {
    return promiseOrCall(rest, settings => {
      const token = tokenOf(this, settings?.['verify'] as Settings | undefined)
      return decode(token, settings?.['decode'] as Settings | undefined)
    })
  } as never)
  fastify.decorateReply('jwtSign', function (this: FastifyReply, payload: unknown, ...rest: unknown[]) {
    return promiseOrCall(rest, settings => sign(payload, partOf(settings, 'sign')))
  } as never)
}

/** Applied last, so that no option of the caller can change the key or the algorithm. */
function headerOf (
  { alg, kid }: SigningKey,
  more?: unknown
): { algorithm: SigningKey['alg'], kid: string, header: { alg: string, typ: string, kid: string } } {
  return { algorithm: alg, kid, header: { ...(more as object | undefined), alg, typ: 'at+jwt', kid } }
}

/** The verifier requires a `jti` in every token, and fast-jwt cannot generate one per token. */
function withTokenId (payload: unknown): unknown {
  if (typeof payload !== 'object' || payload === null || 'jti' in payload) return payload
  return { ...payload, jti: randomBytes(16).toString('base64url') }
}

/** Claims that make a token valid for another service or at another time. The caller may set them. */
const CALLER_CLAIMS: readonly string[] = ['iss', 'aud', 'exp', 'iat', 'nbf']

/**
 * Refuses to sign a token that this service would never accept. Otherwise its holder would learn so
 * only later, and not why.
 */
function assertAcceptable (token: string, options: ResolvedTokenOptions): void {
  if (token.length > MAX_TOKEN_CHARS) {
    throw new CredentialRequestInvalid(
      `The token would have ${token.length} characters, and at most ${MAX_TOKEN_CHARS} are accepted; sign fewer claims`
    )
  }
  const claims = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as JsonObject
  if (!isShortString(claims['sub'])) {
    throw new CredentialRequestInvalid(
      'A token needs "sub", a string of 1 to 256 characters that names its subject: sign { sub: user.id, ... }, or ' +
        'use tokens.issue({ subject })'
    )
  }
  const wrong = readClaims(claims, options, claims['iat'] as number)
  if (wrong === 'lifetime') {
    throw new CredentialRequestInvalid(
      `The token would live longer than ${options.maxLifetimeSeconds} seconds (maxLifetimeSeconds), and be refused; ` +
        'give a shorter "expiresIn"'
    )
  }
  if (typeof wrong === 'string' && !CALLER_CLAIMS.includes(wrong)) {
    throw new CredentialRequestInvalid(
      `The claim "${wrong}" is not valid in a token of this service, so the token would be refused; see the ` +
        'README of @marty/auth'
    )
  }
}

function tokenOf (request: FastifyRequest, settings?: Settings): string {
  const extract = settings?.['extractToken'] as ((request: FastifyRequest) => string | undefined) | undefined
  const token = extract === undefined ? credentialsOf(request.raw).bearer : extract(request) ?? null
  if (token === null) throw new Unauthenticated()
  return token
}

function withCredentialError<T> (work: () => T): T {
  try {
    return work()
  } catch (cause) {
    throw cause instanceof MartyError ? cause : new CredentialInvalid({ cause })
  }
}

/** Returns the options of one operation, which may be flat or nested under its name. */
function partOf (settings: Settings | undefined, name: 'sign' | 'verify'): Settings | undefined {
  return settings !== undefined && ('decode' in settings || name in settings)
    ? (settings[name] as Settings | undefined)
    : settings
}

/** Returns the value, or passes it to the callback when the last argument is one. */
function returnOrCall (rest: readonly unknown[], produce: (settings: Settings | undefined) => unknown): unknown {
  const callback = rest.findLast(argument => typeof argument === 'function') as Callback | undefined
  const settings = typeof rest[0] === 'object' && rest[0] !== null ? rest[0] as Settings : undefined
  if (callback === undefined) return produce(settings)
  let value: unknown
  try {
    value = produce(settings)
  } catch (error) {
    callback(error)
    return
  }
  callback(null, value)
}

function promiseOrCall (
  rest: readonly unknown[],
  produce: (settings: Settings | undefined) => unknown
): Promise<unknown> | void {
  if (rest.some(argument => typeof argument === 'function')) returnOrCall(rest, produce)
  else return (async () => returnOrCall(rest, produce))()
}

// Keys as PEM or bytes, as fast-jwt needs them; each is exported once.
const privateTexts = new WeakMap<JwtKey, string | Buffer>()
const publicTexts = new WeakMap<JwtKey, string | Buffer>()

function privateText (key: SigningKey): string | Buffer {
  return cachedText(privateTexts, key, () =>
    key.signKey.type === 'secret' ? key.signKey.export() : key.signKey.export({ type: 'pkcs8', format: 'pem' })
  )
}

function publicText (key: JwtKey): string | Buffer {
  return cachedText(publicTexts, key, () =>
    key.verifyKey.type === 'secret' ? key.verifyKey.export() : key.verifyKey.export({ type: 'spki', format: 'pem' })
  )
}

function cachedText (
  texts: WeakMap<JwtKey, string | Buffer>,
  key: JwtKey,
  make: () => string | Buffer
): string | Buffer {
  const text = texts.get(key) ?? make()
  texts.set(key, text)
  return text
}
