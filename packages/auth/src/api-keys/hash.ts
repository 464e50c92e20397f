import { createHmac, timingSafeEqual } from 'node:crypto'
import { createRequire } from 'node:module'
import type { ApiKeySecret } from './store.js'

export type ApiKeyAlgorithm = ApiKeySecret['algorithm']

type Hashed = Pick<ApiKeySecret, 'algorithm' | 'hash' | 'pepperId'>

/**
 * Hashes the secrets of API keys. Without the pepper, a reader of the store can neither use nor test a
 * key.
 */
export interface ApiKeyHasher {
  hash (secret: string): Promise<Hashed>
  /** Whether the secret matches. Also false when the hash was made with an unknown pepper. */
  matches (secret: string, hashed: Hashed): Promise<boolean>
  knowsPepperOf (hashed: Hashed): boolean
  /** Whether the hash was made with the current pepper and algorithm. */
  isCurrent (hashed: Hashed): boolean
}

/** Creates a hasher. The first pepper makes new hashes; the others only check old ones. */
export function createApiKeyHasher (
  peppers: readonly Buffer[],
  algorithm: ApiKeyAlgorithm,
  bcryptCost: number
): ApiKeyHasher {
  const byId = new Map(peppers.map(pepper => [idOf(pepper), pepper]))
  const [current = ''] = byId.keys()
  // Load it now rather than for the first request: if it cannot be loaded, the start must fail.
  if (algorithm === 'bcrypt') loadBcrypt()
  return {
    async hash (secret) {
      const pepper = byId.get(current)!
      return {
        algorithm,
        pepperId: current,
        hash: algorithm === 'bcrypt'
          ? await loadBcrypt().hash(bcryptInput(pepper, secret), bcryptCost)
          : fastHash(pepper, secret)
      }
    },
    async matches (secret, hashed) {
      const pepper = byId.get(hashed.pepperId)
      if (pepper === undefined) return false
      if (hashed.algorithm === 'bcrypt') {
        return await loadBcrypt().compare(bcryptInput(pepper, secret), hashed.hash)
      }
      const expected = Buffer.from(fastHash(pepper, secret))
      const given = Buffer.from(hashed.hash)
      return expected.length === given.length && timingSafeEqual(expected, given)
    },
    knowsPepperOf: hashed => byId.has(hashed.pepperId),
    isCurrent: hashed => hashed.pepperId === current && hashed.algorithm === algorithm
  }
}

let bcrypt: typeof import('bcrypt') | null = null

/** Loads the native module when the first bcrypt hash is needed: services without any never load it. */
function loadBcrypt (): typeof import('bcrypt') {
  bcrypt ??= createRequire(import.meta.url)('bcrypt') as typeof import('bcrypt')
  return bcrypt
}

function idOf (pepper: Buffer): string {
  return createHmac('sha256', pepper).update('pepper id').digest('hex').slice(0, 16)
}

/** 44 characters, so that bcrypt's limits (72 bytes, no NUL) do not matter. */
function bcryptInput (pepper: Buffer, secret: string): string {
  return createHmac('sha256', pepper).update(secret).digest('base64')
}

/** A different message than for bcrypt, so that a hash of one form reveals nothing about the other. */
function fastHash (pepper: Buffer, secret: string): string {
  return createHmac('sha256', pepper).update('hmac-sha256 ').update(secret).digest('base64')
}
