import { createHash, createHmac, randomBytes } from 'node:crypto'

/** `ses_` and 256 random bits in base64url. */
export const SESSION_ID: RegExp = /^ses_[A-Za-z0-9_-]{43}$/

const KEY = /^[A-Za-z0-9_-]{43}$/

export function newSessionId (): string {
  return `ses_${randomBytes(32).toString('base64url')}`
}

/**
 * Returns the SHA-256 of a session id, under which the session is stored and listed; the id cannot be
 * recovered from it. Null when the string is not a session id.
 */
export function sessionKey (id: string): string | null {
  return SESSION_ID.test(id) ? createHash('sha256').update(id).digest('base64url') : null
}

export function isSessionKey (key: string): boolean {
  return KEY.test(key)
}

/**
 * Returns the CSRF token of a session. Only a page that can read the service's responses knows it. It
 * is derived from the id, so it is not stored and ends with the session; the id cannot be recovered
 * from it.
 */
export function csrfTokenOf (id: string): string {
  return createHmac('sha256', id).update('marty session csrf').digest('base64url')
}
