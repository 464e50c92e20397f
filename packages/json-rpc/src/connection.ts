import type { WebSocket } from '@fastify/websocket'
import { ANONYMOUS, effectivePrincipal, type Principal } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import type { Dispatcher, Peer } from './dispatcher.js'
import { readMessage, writeNotification } from './framing.js'
import type { ResolvedOptions } from './options.js'

/** One WebSocket client, as handlers see it. */
export interface RpcConnection {
  readonly id: string
  /** The client's address, with trusted proxies taken into account; null when the transport has none. */
  readonly address: string | null
  /** The authenticated caller; `ANONYMOUS` before authentication and after the credential has expired. */
  readonly principal: Principal
  /** Aborts when the connection closes. Use it to remove subscriptions. */
  readonly signal: AbortSignal
  /** Sends a notification. Returns false when the connection is closing, or was closed because it reads too slowly. */
  notify (method: string, params?: object): boolean
  /** Closes the connection with a code of RFC 6455 section 7.4, or from 4000 to 4999. */
  close (code: number, reason: string): void
}

export interface ConnectionSource {
  readonly id: string
  readonly address: string | null
  readonly principal: Principal
  readonly log: FastifyBaseLogger
}

/** Close codes of RFC 6455 section 7.4.1, and 4401 from the range for applications. */
export const CLOSE = {
  goingAway: 1001,
  unsupportedData: 1003,
  policyViolation: 1008,
  messageTooBig: 1009,
  tryAgainLater: 1013,
  authenticationTimeout: 4401
} as const

/**
 * A connection is alive if it sent a pong or any message since the last ping. After two unanswered pings it is
 * closed.
 */
const MAX_UNANSWERED_PINGS = 2

/** The plugin's side of a connection: reads messages, limits concurrent work and writes responses. */
export class Connection implements RpcConnection, Peer {
  readonly id: string
  readonly address: string | null
  readonly log: FastifyBaseLogger
  readonly request = null
  readonly #socket: WebSocket
  readonly #dispatcher: Dispatcher
  readonly #options: ResolvedOptions
  readonly #closed = new AbortController()
  readonly #queue: string[] = []
  #credential: Principal
  #running = 0
  #authenticating = false
  #draining = false
  #whenIdle: (() => void) | null = null
  #unansweredPings = 0
  #calls = 0
  /** Consecutive refusals. */
  #refusals = 0
  #deadline: NodeJS.Timeout | null = null

  constructor (socket: WebSocket, source: ConnectionSource, dispatcher: Dispatcher, options: ResolvedOptions) {
    this.id = source.id
    this.address = source.address
    this.log = source.log
    this.#credential = source.principal
    this.#socket = socket
    this.#dispatcher = dispatcher
    this.#options = options
    socket.on('message', (data, isBinary) => { this.#receive(data as Buffer, isBinary) })
    socket.on('pong', () => { this.#unansweredPings = 0 })
    socket.once('close', () => { this.#clear() })
    if (options.authenticationTimeoutMs > 0 && this.#credential === ANONYMOUS) {
      this.#deadline = setTimeout(() => {
        this.close(CLOSE.authenticationTimeout, 'authentication required')
      }, options.authenticationTimeoutMs).unref()
    }
  }

  get connection (): RpcConnection { return this }
  get credential (): Principal { return this.#credential }
  get principal (): Principal { return effectivePrincipal(this.#credential) }
  get signal (): AbortSignal { return this.#closed.signal }

  nextCallId (): string { return `${this.id}.${++this.#calls}` }

  authenticate (principal: Principal): void {
    this.#credential = principal
    if (this.#deadline !== null) clearTimeout(this.#deadline)
    this.#deadline = null
  }

  updateCredential (before: Principal, after: Principal): void {
    // The client may have authenticated again while the check ran.
    if (after === ANONYMOUS && this.#credential === before) this.#credential = ANONYMOUS
  }

  countRefusal (limited: boolean): void {
    this.#refusals = limited ? this.#refusals + 1 : 0
  }

  notify (method: string, params?: object): boolean {
    return this.send(writeNotification(method, params))
  }

  send (text: string): boolean {
    if (this.#socket.readyState !== this.#socket.OPEN) return false
    if (this.#socket.bufferedAmount > this.#options.maxBufferedBytes) {
      this.close(CLOSE.tryAgainLater, 'reading too slowly')
      return false
    }
    this.#socket.send(text)
    return true
  }

  close (code: number, reason: string): void {
    this.#queue.length = 0
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.close(code, reason)
    // Resume a paused socket, so that the client's close frame is read.
    this.#socket.resume()
  }

  terminate (): void { this.#socket.terminate() }

  ping (): void {
    // While the socket is paused, its pongs are not read either.
    if (this.#socket.isPaused) return
    if (this.#unansweredPings >= MAX_UNANSWERED_PINGS) {
      this.log.info('connection does not answer pings')
      this.terminate()
    } else if (this.#socket.readyState === this.#socket.OPEN) {
      this.#unansweredPings++
      this.#socket.ping()
    }
  }

  /** Accepts no more messages. Resolves when the running calls are answered. */
  async drain (): Promise<void> {
    this.#draining = true
    this.#queue.length = 0
    if (this.#running > 0) await new Promise<void>(resolve => { this.#whenIdle = resolve })
  }

  #receive (data: Buffer, isBinary: boolean): void {
    this.#unansweredPings = 0
    if (this.#draining || this.#socket.readyState !== this.#socket.OPEN) return
    const most = this.principal === ANONYMOUS ? this.#options.maxAnonymousPayloadBytes : this.#options.maxPayloadBytes
    if (isBinary) {
      this.close(CLOSE.unsupportedData, 'messages must be text')
    } else if (data.length > most) {
      this.close(CLOSE.messageTooBig, 'message too big')
    } else {
      this.#queue.push(data.toString('utf8'))
      this.#processQueue()
    }
  }

  #processQueue (): void {
    while (this.#queue.length > 0 && this.#running < this.#options.maxConcurrent && !this.#authenticating) {
      const message = readMessage(this.#queue.shift()!, this.#options)
      // Messages sent after `authenticate` expect it to have succeeded, so they wait for its result.
      const authenticates = message.elements.some(
        element => 'method' in element && element.method === this.#options.authenticateMethod
      )
      this.#authenticating = authenticates
      this.#running++
      void this.#dispatcher.dispatch(message, this).then(response => {
        this.#running--
        if (authenticates) this.#authenticating = false
        if (response !== null) this.send(response)
        if (this.#refusals >= this.#options.maxRefusals) this.#closeAfterRefusals()
        if (this.#running === 0) this.#whenIdle?.()
        this.#processQueue()
      })
    }
    if (this.#queue.length > 0) this.#socket.pause()
    else if (this.#socket.isPaused) this.#socket.resume()
  }

  /** Closes the connection: each refused call costs the service work, but the client nothing. */
  #closeAfterRefusals (): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return
    this.log.info('connection closed: too many consecutive calls were refused')
    this.close(CLOSE.policyViolation, 'too many consecutive refused calls')
  }

  #clear (): void {
    if (this.#deadline !== null) clearTimeout(this.#deadline)
    this.#queue.length = 0
    this.#closed.abort()
  }
}
