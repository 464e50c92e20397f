import type { FastifyInstance } from 'fastify'
import type { Socket } from 'node:net'

/** From the connection to the end of the headers. They are a few hundred bytes. */
const HEADERS_MS = 5_000
/** For a whole request. Bodies are at most 64 KiB. */
const REQUEST_MS = 15_000
/** Between an answer and the next request on the same connection. */
const KEEP_ALIVE_MS = 5_000
/** How often Node looks for late requests. Its default of 30 s would be added to each limit. */
const CHECK_MS = 1_000

/**
 * Options of a listener that clients cannot hold open: for Fastify, and for the http or https server it makes. Node
 * reads the interval at the making only, and swaps the two timeouts when the one for headers is the larger.
 */
export function slowClientOptions (stalledMs: number) {
  return {
    fastify: { requestTimeout: REQUEST_MS, keepAliveTimeout: KEEP_ALIVE_MS, connectionTimeout: stalledMs },
    server: { headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS, connectionsCheckingInterval: CHECK_MS }
  }
}

/**
 * Cuts off a client that does not read its answer: not a byte for `stalledMs`, or up to twice as long, because Node
 * looks only then whether any have gone since. A slow one whose bytes flow may take as long as it needs, and a call
 * that is still worked on is not its client's fault. A WebSocket is no longer concerned: it has a heartbeat.
 * To be called before routes are added.
 */
export function cutStalledReaders (app: FastifyInstance, stalledMs: number): void {
  app.addHook('onRequest', (_request, reply, done) => {
    // With a listener, Node leaves it to us to close the socket.
    reply.raw.on('timeout', (socket: Socket) => {
      if (socket.writableLength === 0) socket.setTimeout(stalledMs)
      else abandon(socket)
    })
    done()
  })
}

/** A mere close would leave what was not read to the kernel, for minutes; a TLS socket cannot be reset. */
function abandon (socket: Socket): void {
  if ('encrypted' in socket) socket.destroy()
  else socket.resetAndDestroy()
}
