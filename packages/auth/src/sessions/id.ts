import { createHash, createHmac, randomBytes } from 'node:crypto'

/** `ses_` and 256 random bits in base64url. */
export const SESSION_ID: RegExp = /^ses_[A-Za-z0-9_-]{43}$/

const KEY = /^[A-Za-z0-9_-]{43}$/

export function newSessionId (): string {
  return `ses_${randomBytes(32).toString('base64url')}`
}

/** What a session is kept and shown under: the SHA-256 of its id, which gives nobody the session. Null for what is no id. */
export function sessionKey (id: string): string | null {
  return SESSION_ID.test(id) ? createHash('sha256').update(id).digest('base64url') : null
}

export function isSessionKey (key: string): boolean {
  return KEY.test(key)
}

/**
 * The token that shows that a page could read what this service answered to the session. Derived from the id, so it is
 * kept nowhere and ends with it; the id cannot be had from it.
 */
export function csrfTokenOf (id: string): string {
  return createHmac('sha256', id).update('marty session csrf').digest('base64url')
}
