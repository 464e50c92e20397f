import { once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { WebSocket } from 'ws'

interface RpcAnswer {
  readonly id?: number
  readonly result?: unknown
  readonly error?: { readonly code: number; readonly data: Record<string, unknown> }
}

/** A JSON-RPC client on a WebSocket of its own. */
export interface RpcClient {
  /** The result; a refusal's code instead, such as -32001. */
  call (method: string, params?: object): Promise<unknown>
}

export async function connectRpc (
  t: Test,
  app: FastifyInstance,
  headers: Record<string, string> = {}
): Promise<RpcClient> {
  const socket = new WebSocket(`ws://127.0.0.1:${(app.server.address() as AddressInfo).port}/ws`, { headers })
  t.teardown(() => {
    socket.terminate()
  })
  const waiting = new Map<number, (answer: RpcAnswer) => void>()
  socket.on('message', data => {
    const answer = JSON.parse((data as Buffer).toString()) as RpcAnswer
    waiting.get(answer.id ?? 0)?.(answer)
  })
  await once(socket, 'open')
  let calls = 0
  return {
    async call (method, params) {
      const id = ++calls
      const answered = new Promise<RpcAnswer>(resolve => {
        waiting.set(id, resolve)
      })
      socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }))
      const { result, error } = await answered
      return error === undefined ? result : error.code
    }
  }
}
