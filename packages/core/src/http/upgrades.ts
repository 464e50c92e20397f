import type { FastifyInstance } from 'fastify'
import type { IncomingMessage } from 'node:http'

type Server = FastifyInstance['server']
type Socket = IncomingMessage['socket']
type Response = Parameters<FastifyInstance['routing']>[1]

/** An upgrade request that is about to be answered in HTTP, or accepted. */
interface Pending {
  readonly response: Response
  readonly socket: Socket
  /** The socket's `bytesWritten` when the request arrived. */
  readonly written: number
}

const watched = new WeakSet<Server>()

/**
 * Manages the sockets of upgrade requests, in whatever order plugins are registered. Node hands such a socket over with
 * the request and no longer manages it: Node sends no HTTP response on it, and closes it neither after a response nor
 * when the server closes.
 */
export function watchUpgrades (fastify: FastifyInstance): void {
  if (watched.has(fastify.server)) return
  watched.add(fastify.server)
  ignoreOtherUpgrades(fastify.server)
  closeAfterAnswer(fastify)
}

/**
 * Serves an upgrade request that is not a WebSocket handshake as an ordinary HTTP/1.1 request: a server may ignore
 * Upgrade (RFC 9110 section 7.8), and `curl --http2` or Java's HttpClient send `Upgrade: h2c` with every request.
 * Overrides `emit`, because only that runs before the listeners of all plugins.
 */
function ignoreOtherUpgrades (server: Server): void {
  const emit = server.emit.bind(server)
  const upgrade = (request: IncomingMessage, socket: Socket, head: Buffer): void => {
    if (socket.destroyed) return
    // Node's internal reference to the response in progress on this socket: to a request pipelined before this one.
    const { _httpMessage: earlier } = socket as { _httpMessage?: Response | null }
    if (earlier != null) {
      earlier.once('close', () => { upgrade(request, socket, head) })
    } else if (isWebSocketHandshake(request)) {
      emit('upgrade', request, socket, head)
    } else {
      serveWithoutUpgrade(request, socket, head)
    }
  }
  server.emit = function (event: string, ...args: unknown[]): boolean {
    if (event !== 'upgrade' || server.listenerCount('upgrade') === 0) {
      return emit(event as 'request', ...(args as [never, never]))
    }
    const [request, socket, head] = args as [IncomingMessage, Socket, Buffer]
    // Node has removed its own error listener, and an `error` event without a listener ends the process.
    socket.on('error', destroy)
    upgrade(request, socket, head)
    return true
  } as Server['emit']
}

/** RFC 6455 section 4.2.1. Requests with a body are excluded: the body would be parsed as frames. */
function isWebSocketHandshake ({ method, headers, httpVersion }: IncomingMessage): boolean {
  return method === 'GET' && httpVersion === '1.1' && headers.upgrade?.toLowerCase() === 'websocket' &&
    /^[+/0-9A-Za-z]{22}==$/.test(headers['sec-websocket-key'] ?? '') &&
    ['8', '13'].includes(String(headers['sec-websocket-version'])) &&
    headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) === 0
}

/** Returns the connection to Node's HTTP server, with the same request in front, but without its `Upgrade` header. */
function serveWithoutUpgrade (request: IncomingMessage, socket: Socket, head: Buffer): void {
  const { method, url, httpVersion, rawHeaders } = request
  let text = `${method} ${url} HTTP/${httpVersion}\r\n`
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    const value = name.toLowerCase() === 'connection' ? withoutUpgrade(rawHeaders[i + 1]!) : rawHeaders[i + 1]!
    if (!['upgrade', 'http2-settings'].includes(name.toLowerCase()) && value !== '') text += `${name}: ${value}\r\n`
  }
  socket.off('error', destroy)
  socket.unshift(Buffer.concat([Buffer.from(`${text}\r\n`, 'latin1'), head]))
  // The socket knows its own server: Fastify has a second server for the other address of localhost.
  const { server } = socket as unknown as { server: Server }
  server.emit('encrypted' in socket ? 'secureConnection' : 'connection', socket as never)
}

function withoutUpgrade (connection: string): string {
  return connection
    .split(',')
    .map(option => option.trim())
    .filter(option => !['upgrade', 'http2-settings'].includes(option.toLowerCase()))
    .join(', ')
}

/**
 * `@fastify/websocket` passes upgrade requests to `fastify.routing`. Wrapping it also covers requests that the router
 * itself refuses.
 */
function closeAfterAnswer (fastify: FastifyInstance): void {
  const pending = new Set<Pending>()
  const routing = fastify.routing.bind(fastify)
  fastify.routing = (request, response) => {
    const { socket } = response as { socket: Socket | null }
    if ((request as { upgrade?: boolean }).upgrade !== true || socket === null) {
      routing(request, response)
      return
    }
    const entry: Pending = { response, socket, written: socket.bytesWritten }
    pending.add(entry)
    socket.once('close', () => { pending.delete(entry) })
    response.once('finish', () => { socket.destroySoon() })
    response.setHeader('connection', 'close')
    routing(request, response)
  }
  fastify.addHook('preClose', async () => {
    for (const { response, socket, written } of pending) {
      // Code that accepts an upgrade writes to the socket, not to the response, and closes such connections itself.
      const isAccepted = !response.headersSent && socket.bytesWritten > written
      if (!isAccepted) socket.destroy()
    }
  })
}

function destroy (this: Socket): void {
  this.destroy()
}
