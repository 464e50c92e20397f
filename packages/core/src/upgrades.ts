import type { FastifyInstance } from 'fastify'
import type { IncomingMessage } from 'node:http'

type Server = FastifyInstance['server']
type Socket = IncomingMessage['socket']
type Response = Parameters<FastifyInstance['routing']>[1]

/** An upgrade request that is being answered in HTTP, or accepted. */
interface Pending {
  readonly response: Response
  readonly socket: Socket
  /** What the connection had sent before: `bytesWritten` then. */
  readonly written: number
}

const watched = new WeakSet<Server>()

/**
 * Sees to the sockets of upgrade requests, in whatever order plugins are registered. Node hands such a socket over with
 * the request and forgets it: it neither answers in HTTP, nor closes it after an answer or when the server closes.
 */
export function watchUpgrades (fastify: FastifyInstance): void {
  if (watched.has(fastify.server)) return
  watched.add(fastify.server)
  ignoreOtherUpgrades(fastify.server)
  closeAfterAnswer(fastify)
}

/**
 * Serves what is no WebSocket handshake as the ordinary HTTP/1.1 request that it is as well: a server may ignore Upgrade
 * (RFC 9110 section 7.8), and `curl --http2` or Java's HttpClient send `Upgrade: h2c` with whatever they ask.
 * `emit` is the only place before the listeners of all plugins.
 */
function ignoreOtherUpgrades (server: Server): void {
  const emit = server.emit.bind(server)
  const upgrade = (request: IncomingMessage, socket: Socket, head: Buffer): void => {
    if (socket.destroyed) return
    // Node's own name for the response that a socket carries: of a request pipelined in front of this one.
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
    // Node has taken its own listener away, and an error without one ends the process.
    socket.on('error', destroy)
    upgrade(request, socket, head)
    return true
  } as Server['emit']
}

/** RFC 6455 section 4.2.1. A body would be read as frames. */
function isWebSocketHandshake ({ method, headers, httpVersion }: IncomingMessage): boolean {
  return method === 'GET' && httpVersion === '1.1' && headers.upgrade?.toLowerCase() === 'websocket' &&
    /^[+/0-9A-Za-z]{22}==$/.test(headers['sec-websocket-key'] ?? '') &&
    ['8', '13'].includes(String(headers['sec-websocket-version'])) &&
    headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) === 0
}

/** Gives the connection back to Node's HTTP server, with the same request in front that does not ask for an upgrade. */
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
  // `net.Socket` of a server knows it; Fastify has a second one for the other address of localhost.
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

/** `@fastify/websocket` has upgrade requests answered by `fastify.routing`, which sees those too that the router refuses by itself. */
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
      // Whoever accepts an upgrade writes past the response, and says goodbye to those connections by itself.
      const isAccepted = !response.headersSent && socket.bytesWritten > written
      if (!isAccepted) socket.destroy()
    }
  })
}

function destroy (this: Socket): void {
  this.destroy()
}
