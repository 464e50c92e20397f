import type { FastifyInstance } from 'fastify'
import type { Socket } from 'node:net'

/** Time limit from the connection to the end of the request headers. They are a few hundred bytes. */
const HEADERS_MS = 5_000
/** Time limit for receiving a whole request. Bodies are at most 64 KiB. */
const REQUEST_MS = 15_000
/** Time limit between a response and the next request on the same connection. */
const KEEP_ALIVE_MS = 5_000
/** How often Node checks for late requests. Its default of 30 s would be added to each limit. */
const CHECK_MS = 1_000

/**
 * Options that keep slow clients from holding connections open: for Fastify, and for the http or https server that it
 * creates. Node reads `connectionsCheckingInterval` only when the server is created, and swaps the two timeouts if the
 * one for headers is the larger.
 */
export function slowClientOptions (stalledMs: number) {
  return {
    fastify: { requestTimeout: REQUEST_MS, keepAliveTimeout: KEEP_ALIVE_MS, connectionTimeout: stalledMs },
    server: { headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS, connectionsCheckingInterval: CHECK_MS }
  }
}

/**
 * Disconnects a client that reads no byte of its response for `stalledMs`. It can take up to twice as long, because
 * Node checks only when the timeout fires whether bytes were sent since. A slow client that keeps reading may take as
 * long as it needs, and a request that the service is still processing is not disconnected. WebSocket connections are
 * not affected: they have a heartbeat. Call this before routes are added.
 */
export function cutStalledReaders (app: FastifyInstance, stalledMs: number): void {
  app.addHook('onRequest', (_request, reply, done) => {
    // With a 'timeout' listener, Node does not close the socket itself.
    reply.raw.on('timeout', (socket: Socket) => {
      if (socket.writableLength === 0) socket.setTimeout(stalledMs)
      else abandon(socket)
    })
    done()
  })
}

/**
 * Resets the connection. After a normal close, the kernel would keep the unread data for minutes. A TLS socket cannot
 * be reset, so it is destroyed.
 */
function abandon (socket: Socket): void {
  if ('encrypted' in socket) socket.destroy()
  else socket.resetAndDestroy()
}
