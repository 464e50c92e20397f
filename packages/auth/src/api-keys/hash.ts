import { compare, hash } from 'bcrypt'
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { ApiKeySecret } from './store.js'

export type ApiKeyAlgorithm = ApiKeySecret['algorithm']

type Hashed = Pick<ApiKeySecret, 'algorithm' | 'hash' | 'pepperId'>

/** How secrets of API keys are kept: nobody who reads the store can use, or test, a key without the pepper. */
export interface ApiKeyHasher {
  hash (secret: string): Promise<Hashed>
  /** False also for what was made with a pepper that is not known. */
  matches (secret: string, hashed: Hashed): Promise<boolean>
  knowsPepperOf (hashed: Hashed): boolean
  /** Made as new ones are made now. */
  isCurrent (hashed: Hashed): boolean
}

/** The first pepper makes new hashes; the others still check old ones. */
export function createApiKeyHasher (
  peppers: readonly Buffer[],
  algorithm: ApiKeyAlgorithm,
  bcryptCost: number
): ApiKeyHasher {
  const byId = new Map(peppers.map(pepper => [idOf(pepper), pepper]))
  const [current = ''] = byId.keys()
  return {
    async hash (secret) {
      const pepper = byId.get(current)!
      return {
        algorithm,
        pepperId: current,
        hash: algorithm === 'bcrypt' ? await hash(bcryptInput(pepper, secret), bcryptCost) : fastHash(pepper, secret)
      }
    },
    async matches (secret, hashed) {
      const pepper = byId.get(hashed.pepperId)
      if (pepper === undefined) return false
      if (hashed.algorithm === 'bcrypt') return await compare(bcryptInput(pepper, secret), hashed.hash)
      const expected = Buffer.from(fastHash(pepper, secret))
      const given = Buffer.from(hashed.hash)
      return expected.length === given.length && timingSafeEqual(expected, given)
    },
    knowsPepperOf: hashed => byId.has(hashed.pepperId),
    isCurrent: hashed => hashed.pepperId === current && hashed.algorithm === algorithm
  }
}

function idOf (pepper: Buffer): string {
  return createHmac('sha256', pepper).update('pepper id').digest('hex').slice(0, 16)
}

/** 44 characters, so that bcrypt's cut at 72 bytes and at NUL never bites. */
function bcryptInput (pepper: Buffer, secret: string): string {
  return createHmac('sha256', pepper).update(secret).digest('base64')
}

/** Another message than bcrypt's, so that neither form of a hash helps with the other. */
function fastHash (pepper: Buffer, secret: string): string {
  return createHmac('sha256', pepper).update('hmac-sha256 ').update(secret).digest('base64')
}
