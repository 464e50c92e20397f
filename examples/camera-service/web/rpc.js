/** An error that the service responded with. */
export class RpcError extends Error {
  /** @param {{ code: number, message: string, data?: { code?: string, retry_after_ms?: number } }} error */
  constructor (error) {
    super(error.message)
    /** JSON-RPC error code. */
    this.code = error.code
    /** The service's own code, `MARTY_…`. */
    this.reason = error.data?.code ?? null
    /** How long to wait before trying again, in milliseconds. */
    this.retryAfterMs = typeof error.data?.retry_after_ms === 'number' ? error.data.retry_after_ms : null
  }
}

/** The call has no response because the connection was lost, or was never made. */
export class ConnectionLost extends Error {
  constructor () { super('the connection to the service is lost') }
}

export class RpcTimeout extends Error {
  /** @param {string} method */
  constructor (method) { super(`the service did not respond to ${method} in time`) }
}

/**
 * @typedef {object} PendingCall
 * @property {(value: any) => void} resolve
 * @property {(error: Error) => void} reject
 * @property {number} timer
 */

const CALL_TIMEOUT_MS = 20_000
const BACKOFF_MIN_MS = 500
const BACKOFF_MAX_MS = 15_000

/**
 * JSON-RPC 2.0 over one WebSocket that comes back by itself. Calls are never queued or sent twice: while
 * there is no connection they fail with `ConnectionLost`.
 *
 * Events: `open` (connected and, when `greet` is set, greeted), `lost` (detail: milliseconds until the next try),
 * `refused` (detail: what `greet` threw; there is no further try), and every notification under `notify:METHOD`.
 */
export class RpcClient extends EventTarget {
  /** @type {WebSocket | null} */
  #socket = null
  /** @type {Map<number, PendingCall>} */
  #pending = new Map()
  #lastId = 0
  #lastHeardAt = 0
  #failures = 0
  /** @type {number | undefined} */
  #retryTimer
  #wanted = false
  #url

  /**
   * Runs on every new connection before `open`, typically to authenticate. An `RpcError` that it throws ends the
   * client with `refused`, unless the service only asks to wait.
   * @type {(() => Promise<void>) | null}
   */
  greet = null

  /** @param {string} url */
  constructor (url) {
    super()
    this.#url = url
  }

  open () {
    if (this.#wanted) return
    this.#wanted = true
    this.#failures = 0
    this.#connect()
  }

  /** Closes the connection for good; pending calls fail. */
  close () {
    this.#wanted = false
    clearTimeout(this.#retryTimer)
    this.#drop()
  }

  /** Connects now instead of waiting for the next attempt. */
  retryNow () {
    if (!this.#wanted || this.#socket !== null) return
    clearTimeout(this.#retryTimer)
    this.#connect()
  }

  /**
   * @param {string} method
   * @param {Record<string, unknown>} [params]
   * @param {number} [timeoutMs]
   * @returns {Promise<any>}
   */
  call (method, params = {}, timeoutMs = CALL_TIMEOUT_MS) {
    const socket = this.#socket
    if (socket === null || socket.readyState !== WebSocket.OPEN) return Promise.reject(new ConnectionLost())
    const id = ++this.#lastId
    const sentAt = Date.now()
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id)
        reject(new RpcTimeout(method))
        // Nothing was received since the call was sent: the connection is dead although no event has reported it.
        if (this.#socket === socket && this.#lastHeardAt < sentAt) this.#lost()
      }, timeoutMs)
      this.#pending.set(id, { resolve, reject, timer })
      socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }))
    })
  }

  #connect () {
    const socket = new WebSocket(this.#url)
    this.#socket = socket
    socket.addEventListener('open', async () => {
      this.#lastHeardAt = Date.now()
      try {
        await this.greet?.()
      } catch (error) {
        if (this.#socket !== socket) return
        if (error instanceof RpcError && error.retryAfterMs === null) {
          this.close()
          this.dispatchEvent(new CustomEvent('refused', { detail: error }))
        } else {
          this.#lost(error instanceof RpcError ? error.retryAfterMs : null)
        }
        return
      }
      if (this.#socket !== socket) return
      this.#failures = 0
      this.dispatchEvent(new CustomEvent('open'))
    })
    socket.addEventListener('message', event => {
      this.#lastHeardAt = Date.now()
      if (this.#socket === socket) this.#receive(event.data)
    })
    socket.addEventListener('close', () => { if (this.#socket === socket) this.#lost() })
  }

  /** @param {unknown} data */
  #receive (data) {
    let message
    try {
      message = JSON.parse(String(data))
    } catch {
      return
    }
    if (typeof message !== 'object' || message === null) return
    if (typeof message.method === 'string') {
      this.dispatchEvent(new CustomEvent(`notify:${message.method}`, { detail: message.params ?? {} }))
      return
    }
    const call = this.#pending.get(message.id)
    if (call === undefined) return
    this.#pending.delete(message.id)
    clearTimeout(call.timer)
    if (message.error === undefined) call.resolve(message.result)
    else call.reject(new RpcError(message.error))
  }

  /** @param {number | null} [waitMs] at least this long until the next try */
  #lost (waitMs = null) {
    this.#drop()
    if (!this.#wanted) return
    const backoff = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this.#failures++)
    // Jitter, so that a wall of browsers does not come back in one instant.
    const delay = Math.max(backoff * (0.75 + Math.random() / 2), waitMs ?? 0)
    this.#retryTimer = setTimeout(() => this.#connect(), delay)
    this.dispatchEvent(new CustomEvent('lost', { detail: delay }))
  }

  #drop () {
    const socket = this.#socket
    this.#socket = null
    socket?.close()
    const calls = [...this.#pending.values()]
    this.#pending.clear()
    for (const call of calls) {
      clearTimeout(call.timer)
      call.reject(new ConnectionLost())
    }
  }
}
