import { hash } from 'node:crypto'
import type { AuthOptions } from '@marty/auth'

/** A secret that is the same in every run, and random enough for the check of weak secrets. */
export const secretFor = (name: string): string => hash('sha256', name, 'base64')

export const SECRET: string = secretFor('tokens')
export const ISSUER = 'https://issuer.test'
export const AUDIENCE = 'camera-service'
export const PEPPER: string = secretFor('API keys')
export const TOKENS: AuthOptions = {
  issuer: ISSUER, audience: AUDIENCE, keys: { signing: { kid: 'k1', algorithm: 'HS256', secret: SECRET } }
}

export const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` })

/** The current time as tokens contain it: seconds since the epoch. */
export const now = (): number => Math.floor(Date.now() / 1000)

/** Encodes one part of a token (an object, or a string as it is) in base64url. */
export function encode (value: unknown): string {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
}
