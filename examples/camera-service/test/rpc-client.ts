import { once } from 'node:events'
import WebSocket from 'ws'

export interface RpcError { readonly code: number, readonly message: string, readonly data?: Record<string, unknown> }

/** What a refused call rejects with. */
export class RpcFailure extends Error {
  readonly code: number
  readonly data: Record<string, unknown>
  constructor (error: RpcError) {
    super(`${error.code} ${error.message}`)
    this.code = error.code
    this.data = error.data ?? {}
  }
}

/** A JSON-RPC client as a stranger would write one. */
export class RpcClient {
  readonly socket: WebSocket
  readonly notifications: Array<{ method: string, params: Record<string, unknown> }> = []
  #next = 1
  readonly #pending = new Map<number, (answer: { result?: unknown, error?: RpcError }) => void>()
  readonly #raw: Array<(text: string) => void> = []

  static async connect (url: string, options: WebSocket.ClientOptions = {}): Promise<RpcClient> {
    const socket = new WebSocket(url, options)
    await once(socket, 'open')
    return new RpcClient(socket)
  }

  constructor (socket: WebSocket) {
    this.socket = socket
    socket.setMaxListeners(0)
    socket.on('message', data => {
      const text = String(data)
      const message = JSON.parse(text)
      if (message.method !== undefined) this.notifications.push(message)
      else if (this.#pending.has(message.id)) {
        this.#pending.get(message.id)?.(message)
        this.#pending.delete(message.id)
      } else this.#raw.shift()?.(text)
    })
  }

  async call (method: string, params?: object): Promise<any> {
    if (this.socket.readyState !== WebSocket.OPEN) throw new Error('the connection is closed')
    const id = this.#next++
    const answer = new Promise<{ result?: unknown, error?: RpcError }>((resolve, reject) => {
      this.#pending.set(id, resolve)
      this.socket.once('close', (code, reason) => { reject(new Error(`closed with ${code} ${String(reason)}`)) })
    })
    this.socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, ...(params === undefined ? {} : { params }) }))
    const { result, error } = await answer
    if (error !== undefined) throw new RpcFailure(error)
    return result
  }

  /** Sends a text as it is and returns the next answer that belongs to no call. */
  async raw (text: string): Promise<{ id: unknown, error: RpcError }> {
    const answer = new Promise<string>(resolve => this.#raw.push(resolve))
    this.socket.send(text)
    return JSON.parse(await answer)
  }

  close (): void {
    this.socket.close()
  }
}
