import { RpcError } from './rpc.js'

/**
 * What the service says of who is signed in.
 * @typedef {object} Account
 * @property {string} role
 * @property {string[]} permissions
 * @property {number | null} expiresAt milliseconds since the epoch
 */

const STORAGE_KEY = 'camera-service.session'

/**
 * The credentials of this tab. A pasted token lives in memory only; the id of the session it opened is kept for
 * the tab's life, so that a reload stays signed in.
 */
export class Session {
  /** @type {string | null} */
  #token = null
  /** @type {string | null} */
  #sessionId = null
  /** @type {Account | null} */
  account = null

  constructor () {
    this.#sessionId = sessionStorage.getItem(STORAGE_KEY)
  }

  get exists () {
    return this.#token !== null || this.#sessionId !== null
  }

  /** For the `Authorization` header of downloads. */
  get credential () {
    return this.#token ?? this.#sessionId
  }

  /** @param {string} token */
  use (token) {
    this.#token = token
    this.#setSessionId(null)
  }

  /**
   * Authenticates the connection. The session is tried when the token no longer is good, and the other way round
   * there is nothing to try.
   * @param {import('./rpc.js').RpcClient} client
   */
  async authenticate (client) {
    const credentials = [this.#token, this.#sessionId].filter(credential => credential !== null)
    let failure = new Error('there is no credential to sign in with')
    for (const credential of credentials) {
      try {
        const answer = await client.call('authenticate', { auth_token: credential })
        this.#accept(answer)
        return
      } catch (error) {
        if (!(error instanceof RpcError) || error.code !== -32001) throw error
        failure = error
      }
    }
    throw failure
  }

  /** @param {string} permission */
  may (permission) {
    return this.account?.permissions.includes(permission) ?? false
  }

  /** Ends the session and the token on the server too, so that copies of them are useless. An API key stays valid. */
  async end () {
    const credentials = [this.#sessionId, this.#token].filter(credential => credential !== null)
    await Promise.allSettled(credentials.map(credential => {
      const headers = { authorization: `Bearer ${credential}` }
      return fetch('/auth/logout', { method: 'POST', headers, keepalive: true })
    }))
  }

  clear () {
    this.#token = null
    this.account = null
    this.#setSessionId(null)
  }

  /**
   * @param {{ role?: string, permissions?: string[], expires_at?: string | null, session_id?: string | null }} answer
   */
  #accept (answer) {
    const expiresAt = Date.parse(answer.expires_at ?? '')
    this.account = {
      role: answer.role ?? 'unknown role',
      permissions: answer.permissions ?? [],
      expiresAt: Number.isNaN(expiresAt) ? null : expiresAt
    }
    if (typeof answer.session_id === 'string') this.#setSessionId(answer.session_id)
  }

  /** @param {string | null} id */
  #setSessionId (id) {
    this.#sessionId = id
    if (id === null) sessionStorage.removeItem(STORAGE_KEY)
    else sessionStorage.setItem(STORAGE_KEY, id)
  }
}
