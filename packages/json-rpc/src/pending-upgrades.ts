import type { FastifyInstance } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'

export interface PendingUpgrades {
  /** Closes the sockets of all pending upgrades, and of every later upgrade immediately. */
  close (): void
}

/**
 * Watches every socket of an upgrade request until it is a WebSocket. Requests that the router itself refuses (a
 * malformed URL, an overlong parameter, any request while closing) reach no hook, and Node does not manage the sockets
 * of upgrade requests. Call it after `@fastify/websocket` is registered.
 */
export function watchUpgrades (fastify: FastifyInstance, timeoutMs: number): PendingUpgrades {
  const pending = new Map<IncomingMessage, { readonly socket: Duplex, readonly forget: () => void }>()
  let closed = false

  fastify.server.prependListener('upgrade', (request: IncomingMessage, socket: Duplex) => {
    if (closed) {
      // The router's response has been written before this runs.
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
