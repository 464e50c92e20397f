import websocket from '@fastify/websocket'
import { ANONYMOUS, createCall, logRefusal, type Guard, type Principal } from '@marty/core'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Connection } from './connection.js'
import { releaseWithSocket, type Connections } from './connections.js'
import type { Dispatcher } from './dispatcher.js'
import { UpgradeRequired, UpgradeUnexpected, WebSocketTaken } from './errors.js'
import { assertOriginAllowed } from './origin.js'
import type { ResolvedOptions } from './options.js'
import { watchUpgrades, type PendingUpgrades } from './pending-upgrades.js'

export interface UpgradeParts {
  readonly guard: Guard
  readonly connections: Connections
  readonly dispatcher: Dispatcher
  readonly options: ResolvedOptions
}

// Many tiny fragments need far more memory than their bytes. No well-behaved client splits 64 KiB into so many.
const MAX_FRAGMENTS = 64
const MAX_BUFFERED_CHUNKS = 256

/** RFC 9110 section 7.8, and RFC 6455 section 4.2.2 for clients that use another version. */
const UPGRADE = { upgrade: 'websocket', 'sec-websocket-version': '13' }

/** How long a client has to answer a close frame, in milliseconds. */
const CLOSE_TIMEOUT_MS = 5_000

// The published types of ws do not include this option yet.
type ServerOptions = NonNullable<websocket.WebsocketPluginOptions['options']> & { readonly closeTimeout: number }

/** Serves WebSocket upgrades. An invalid upgrade is answered with an HTTP error before the protocol is switched. */
export async function serveUpgrades (fastify: FastifyInstance, parts: UpgradeParts): Promise<void> {
  const { guard, connections, dispatcher, options } = parts
  if (fastify.hasDecorator('websocketServer')) throw new WebSocketTaken()
  const server: ServerOptions = {
    maxPayload: options.maxPayloadBytes,
    maxFragments: MAX_FRAGMENTS,
    maxBufferedChunks: MAX_BUFFERED_CHUNKS,
    perMessageDeflate: false,
    clientTracking: false,
    closeTimeout: CLOSE_TIMEOUT_MS
  }
  let pending: PendingUpgrades | null = null
  await fastify.register(websocket, {
    options: server,
    // ws closes the connection itself with the correct code; terminating it here would lose that code.
    errorHandler: (error, _socket, request) => {
      const { code = 'WS_ERR' } = error as NodeJS.ErrnoException
      logRefusal(fastify, request.log, { code, statusCode: 400 })
    },
    preClose: async () => {
      await connections.shutdown()
      pending?.close()
      fastify.websocketServer.close()
    }
  })

  pending = watchUpgrades(fastify, options.upgradeTimeoutMs)
  refuseElsewhere(fastify)
  const identify = authenticateUpgrades(guard)
  const principals = new WeakMap<FastifyRequest, Principal>()
  const releases = new WeakMap<FastifyRequest, () => void>()

  fastify.get(options.path, {
    websocket: true,
    config: { security: options.transportSecurity },
    preValidation: async request => {
      if (!request.ws) throw new UpgradeRequired({ headers: UPGRADE })
      assertOriginAllowed(request, options)
      // No subprotocol is supported, but ws would accept the first one that the client offers.
      delete request.raw.headers['sec-websocket-protocol']
      const address = request.ip ?? null
      const release = connections.reserve(address)
      releases.set(request, release)
      releaseWithSocket(request.raw.socket, release)
      principals.set(request, await identify(request, address))
    }
  }, (socket, request) => {
    const source = {
      id: request.id,
      address: request.ip ?? null,
      principal: principals.get(request) ?? ANONYMOUS,
      log: request.log
    }
    socket.once('close', () => { releases.get(request)?.() })
    connections.add(new Connection(socket, source, dispatcher, options))
  })
}

/** Authenticates clients that send a credential with the upgrade. An invalid credential refuses the upgrade. */
function authenticateUpgrades (guard: Guard): (request: FastifyRequest, address: string | null) => Promise<Principal> {
  const operation = guard.operation({
    name: 'connect',
    transport: 'rpc',
    rule: { authenticate: true },
    where: 'WebSocket upgrades with a credential'
  })
  return async (request, address) => {
    if (operation === null || !guard.hasCredential(request.raw)) return ANONYMOUS
    const call = createCall(operation, request.id, address, request.raw, ANONYMOUS)
    const refusal = await operation.decide(call)
    if (refusal !== undefined) throw refusal
    void guard.emit({
      type: 'authentication',
      action: operation.name,
      outcome: 'success',
      reason: null,
      principal: call.principal,
      address,
      requestId: request.id
    })
    return call.principal
  }
}

/** Refuses upgrades to other URLs: they would be accepted, without any of these limits, and then closed. */
function refuseElsewhere (fastify: FastifyInstance): void {
  const kUpgrades = Symbol('marty.upgrades')
  fastify.addHook('onRoute', route => {
    if (route.websocket === true || route.wsHandler !== undefined) {
      Object.assign((route.config ??= {}), { [kUpgrades]: true })
    }
  })
  fastify.addHook('onRequest', async request => {
    if (request.ws && !request.is404 && !(kUpgrades in request.routeOptions.config)) throw new UpgradeUnexpected()
  })
}
