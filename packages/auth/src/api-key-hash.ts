import { compare, hash } from 'bcrypt'
import { createHmac } from 'node:crypto'

/** How secrets of API keys are kept: nobody who reads the store can use, or test, a key without the pepper. */
export interface ApiKeyHasher {
  readonly pepperId: string
  hash (secret: string): Promise<string>
  matches (secret: string, hashed: string): Promise<boolean>
}

/** bcrypt over a peppered HMAC: 44 characters, so bcrypt's cut at 72 bytes and at NUL never bites. */
export function createApiKeyHasher (pepper: Buffer, cost: number): ApiKeyHasher {
  const peppered = (secret: string): string => createHmac('sha256', pepper).update(secret).digest('base64')
  return {
    pepperId: createHmac('sha256', pepper).update('pepper id').digest('hex').slice(0, 16),
    hash: async secret => await hash(peppered(secret), cost),
    matches: async (secret, hashed) => await compare(peppered(secret), hashed)
  }
}
