import { ANONYMOUS, useGuard } from '@marty/core'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import './augment.js'
import { declareAuthenticate } from './authenticate.js'
import type { RpcConnection } from './connection.js'
import { createConnections } from './connections.js'
import { Dispatcher } from './dispatcher.js'
import { resolveOptions, type JsonRpcOptions } from './options.js'
import { servePost } from './post.js'
import { createRegistry } from './registry.js'
import type { Rpc } from './rpc.js'
import { serveUpgrades } from './upgrade.js'

const plugin: FastifyPluginAsync<JsonRpcOptions> = async (fastify, given) => {
  const options = resolveOptions(given)
  const guard = useGuard(fastify)
  const registry = createRegistry(guard)
  declareAuthenticate(guard, registry, options)
  const dispatcher = new Dispatcher(guard, registry)
  const connections = createConnections(guard, options)

  const rpc: Rpc = {
    method: options => {
      registry.declare(options)
    },
    methods: () =>
      registry
        .all()
        .map(({ name, summary, security, params, result }) => ({ name, summary, security, params, result })),
    notify: (method, params, { to = isAuthenticated } = {}) => connections.notify(method, params, to),
    connections: () => connections.all()
  }
  fastify.decorate('rpc', rpc)

  await serveUpgrades(fastify, { guard, connections, dispatcher, options })
  if (options.httpPath !== false) await servePost(fastify, options.httpPath, dispatcher, options)
}

function isAuthenticated (connection: RpcConnection): boolean {
  return connection.principal !== ANONYMOUS
}

/** JSON-RPC 2.0 over WebSocket, and optionally over POST, behind the same guard as HTTP routes. */
export const jsonRpc: FastifyPluginAsync<JsonRpcOptions> = fp(plugin, { name: '@marty/json-rpc', fastify: '5.x' })
export default jsonRpc

export type { RpcConnection } from './connection.js'
export {
  AddressConnectionsExhausted, ConnectionsExhausted, JsonRpcOptionInvalid, MethodDuplicate, MethodInvalid,
  MethodUnknown, OriginRefused, ParamsInvalid, ParseFailed, RequestInvalid, UpgradeRequired, UpgradeUnexpected,
  WebSocketTaken
} from './errors.js'
export type { NoParams, RpcContext, RpcHandler, RpcMethod, RpcMethodOptions, RpcSecurityRule } from './method.js'
export type { JsonRpcOptions } from './options.js'
export type { ParamsMistake } from './params.js'
export type { Rpc } from './rpc.js'
