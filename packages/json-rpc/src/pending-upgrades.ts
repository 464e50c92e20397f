import type { FastifyInstance } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'

export interface PendingUpgrades {
  /** Hangs up on every upgrade that is not decided, and at once on all that come later. */
  close (): void
}

/**
 * Watches every upgraded socket until it is a WebSocket. What the router refuses itself (a malformed URL, a parameter
 * too long, anything while closing) passes no hook, and node leaves upgraded sockets to whoever upgrades them.
 * To be called when `@fastify/websocket` is registered.
 */
export function watchUpgrades (fastify: FastifyInstance, timeoutMs: number): PendingUpgrades {
  const pending = new Map<IncomingMessage, { readonly socket: Duplex, readonly forget: () => void }>()
  let closed = false

  fastify.server.prependListener('upgrade', (request: IncomingMessage, socket: Duplex) => {
    if (closed) {
      // The router's answer is on its way before this runs.
      setImmediate(() => { socket.destroy() })
      return
    }
    const leave = (): void => { socket.destroy() }
    const timer = setTimeout(leave, timeoutMs).unref()
    const forget = (): void => {
      clearTimeout(timer)
      socket.off('end', leave)
      socket.off('close', forget)
      pending.delete(request)
    }
    pending.set(request, { socket, forget })
    socket.once('end', leave)
    socket.once('close', forget)
  })
  fastify.websocketServer.on('connection', (_webSocket, request) => { pending.get(request)?.forget() })

  return {
    close () {
      closed = true
      for (const { socket } of [...pending.values()]) socket.destroy()
    }
  }
}
