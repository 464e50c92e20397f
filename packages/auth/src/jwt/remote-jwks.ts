import { SingleFlight } from '@marty/core'
import type { JsonWebKey } from 'node:crypto'
import { get } from 'node:https'
import { IssuerUnavailable } from '../errors.js'
import type { AsymmetricAlgorithmName } from './algorithms.js'
import { createJwtKey, TRUSTED_ISSUER_KID, type JwtKey } from './keys.js'
import { parseStrictJson } from './strict-json.js'

export interface RemoteJwksOptions {
  readonly url: URL
  /** The allowed algorithms. A key without `alg` is bound to the first of these that it fits. */
  readonly algorithms: readonly AsymmetricAlgorithmName[]
  /** The certificate authority to trust instead of the default ones. */
  readonly ca?: string | Buffer
}

/** Keys older than this are fetched again in the background. */
const FRESH_MS = 5 * 60_000
/** Keys older than this are no longer used if they could not be fetched again. */
const STALE_MS = 10 * 60_000
/** The minimum interval between requests to the issuer, whatever tokens arrive. */
const SPACING_MS = 30_000
const TIMEOUT_MS = 2_000
const MAX_BYTES = 64 * 1024
const MAX_KEYS = 64
const MAX_DEPTH = 8

/**
 * Fetches and caches the keys of a trusted issuer. Ages are measured by a monotonic clock, so that
 * setting the system clock cannot make an old key fresh.
 */
export class RemoteJwks {
  readonly #options: RemoteJwksOptions
  readonly #fetching = new SingleFlight(async () => { await this.#fetch() })
  #keys: ReadonlyMap<string, JwtKey> = new Map()
  #fetchedAt = -Infinity
  #attemptedAt = -Infinity
  #abort: AbortController | null = null

  constructor (options: RemoteJwksOptions) {
    this.#options = options
  }

  /**
   * Returns the key of this name, synchronously when it is known; null when the issuer has none.
   * Rejects with `MARTY_AUTH_ISSUER_UNAVAILABLE` when the keys have not been fetched for ten minutes.
   */
  find (kid: string): JwtKey | null | Promise<JwtKey | null> {
    const ageMs = performance.now() - this.#fetchedAt
    const isKnown = ageMs <= STALE_MS && this.#keys.has(kid)
    const refreshed = !isKnown || ageMs > FRESH_MS ? this.#refresh() : null
    return isKnown || refreshed === null ? this.#lookUp(kid) : refreshed.then(() => this.#lookUp(kid))
  }

  close (): void {
    this.#abort?.abort()
  }

  /**
   * Fetches the keys; concurrent calls share one request. Returns null when it is too early to fetch
   * again. Never rejects: known keys stay in use.
   */
  #refresh (): Promise<void> | null {
    const isDue = performance.now() - this.#attemptedAt >= SPACING_MS
    return isDue || this.#fetching.isRunning ? this.#fetching.join() : null
  }

  async #fetch (): Promise<void> {
    this.#attemptedAt = performance.now()
    this.#abort = new AbortController()
    try {
      this.#keys = await fetchKeys(this.#options, this.#abort)
      this.#fetchedAt = performance.now()
    } catch {
      // The known keys stay in use.
    }
  }

  #lookUp (kid: string): JwtKey | null {
    if (performance.now() - this.#fetchedAt > STALE_MS) {
      throw new IssuerUnavailable({ headers: { 'retry-after': String(SPACING_MS / 1000) } })
    }
    return this.#keys.get(kid) ?? null
  }
}

async function fetchKeys (
  { url, algorithms, ca }: RemoteJwksOptions,
  abort: AbortController
): Promise<ReadonlyMap<string, JwtKey>> {
  const timer = setTimeout(() => { abort.abort() }, TIMEOUT_MS).unref()
  try {
    const document = parseStrictJson(await fetchBytes(url, ca, abort.signal), MAX_DEPTH)
    const given = document?.['keys']
    if (!Array.isArray(given) || given.length > MAX_KEYS) throw new Error('the answer is not a JWK set, or has too many keys')
    const keys = new Map<string, JwtKey>()
    for (const jwk of given as unknown[]) {
      const key = readKey(jwk, algorithms)
      if (key !== null && !keys.has(key.kid)) keys.set(key.kid, key)
    }
    if (keys.size === 0) throw new Error('no usable key')
    return keys
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Returns the body of a 200 response; redirects are not followed. The signal limits the whole request,
 * from the DNS lookup to the last byte.
 */
async function fetchBytes (url: URL, ca: string | Buffer | undefined, signal: AbortSignal): Promise<Buffer> {
  return await new Promise((resolve, reject) => {
    const request = get(
      url,
      {
        signal,
        agent: false,
        headers: { accept: 'application/jwk-set+json, application/json' },
        ...(ca === undefined ? {} : { ca })
      },
      response => {
        const chunks: Buffer[] = []
        let bytes = 0
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length
          if (bytes > MAX_BYTES) request.destroy(new Error('too large'))
          else chunks.push(chunk)
        })
        response.on('end', () => {
          resolve(Buffer.concat(chunks))
        })
        response.on('error', reject)
        if (response.statusCode !== 200) request.destroy(new Error(`status ${response.statusCode ?? 0}`))
      }
    )
    request.on('error', reject)
  })
}

/**
 * Returns null for a key that cannot be used: symmetric, private, weak, for another use or algorithm,
 * or without a valid name.
 */
function readKey (jwk: unknown, algorithms: readonly AsymmetricAlgorithmName[]): JwtKey | null {
  if (typeof jwk !== 'object' || jwk === null) return null
  for (const algorithm of algorithms) {
    try {
      const { kid } = jwk as { kid: string }
      const refuse = (member: string, reason: string): Error => new Error(`${member} ${reason}`)
      return createJwtKey({ kid, algorithm, publicKey: jwk as JsonWebKey }, refuse, TRUSTED_ISSUER_KID)
    } catch {
      // The key may fit the next algorithm.
    }
  }
  return null
}
