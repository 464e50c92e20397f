import { defineError, type MartyErrorConstructor } from '@marty/core'

export const JsonRpcOptionInvalid: MartyErrorConstructor<'MARTY_JSON_RPC_OPT_INVALID'> = defineError({
  name: 'JsonRpcOptionInvalid',
  code: 'MARTY_JSON_RPC_OPT_INVALID',
  statusCode: 500,
  message: 'An option of the JSON-RPC plugin is not valid'
})

/** Stops the start: another plugin has already registered the WebSocket server, so it would not have these limits. */
export const WebSocketTaken: MartyErrorConstructor<'MARTY_JSON_RPC_WEBSOCKET_TAKEN'> = defineError({
  name: 'WebSocketTaken',
  code: 'MARTY_JSON_RPC_WEBSOCKET_TAKEN',
  statusCode: 500,
  message:
    '@fastify/websocket is already registered: only @marty/json-rpc may register it, because its limits must hold for every socket'
})

export const MethodInvalid: MartyErrorConstructor<'MARTY_JSON_RPC_METHOD_INVALID'> = defineError({
  name: 'MethodInvalid',
  code: 'MARTY_JSON_RPC_METHOD_INVALID',
  statusCode: 500,
  message: 'A JSON-RPC method cannot be declared like this'
})

export const MethodDuplicate: MartyErrorConstructor<'MARTY_JSON_RPC_METHOD_DUPLICATE'> = defineError({
  name: 'MethodDuplicate',
  code: 'MARTY_JSON_RPC_METHOD_DUPLICATE',
  statusCode: 500,
  message: 'A JSON-RPC method is declared twice'
})

/** The request comes from a page of another origin, which must not call the service through its visitor's browser. */
export const OriginRefused: MartyErrorConstructor<'MARTY_JSON_RPC_ORIGIN_REFUSED'> = defineError({
  name: 'OriginRefused',
  code: 'MARTY_JSON_RPC_ORIGIN_REFUSED',
  statusCode: 403,
  message: 'Pages of this origin may not call this service'
})

export const UpgradeRequired: MartyErrorConstructor<'MARTY_JSON_RPC_UPGRADE_REQUIRED'> = defineError({
  name: 'UpgradeRequired',
  code: 'MARTY_JSON_RPC_UPGRADE_REQUIRED',
  statusCode: 426,
  message: 'This URL accepts only WebSocket connections'
})

export const UpgradeUnexpected: MartyErrorConstructor<'MARTY_JSON_RPC_UPGRADE_UNEXPECTED'> = defineError({
  name: 'UpgradeUnexpected',
  code: 'MARTY_JSON_RPC_UPGRADE_UNEXPECTED',
  statusCode: 400,
  message: 'This URL does not accept WebSocket connections'
})

export const ConnectionsExhausted: MartyErrorConstructor<'MARTY_JSON_RPC_CONNECTIONS_EXHAUSTED'> = defineError({
  name: 'ConnectionsExhausted',
  code: 'MARTY_JSON_RPC_CONNECTIONS_EXHAUSTED',
  statusCode: 503,
  message: 'The service has no free connection'
})

export const AddressConnectionsExhausted: MartyErrorConstructor<'MARTY_JSON_RPC_ADDRESS_CONNECTIONS_EXHAUSTED'> =
  defineError({
    name: 'AddressConnectionsExhausted',
    code: 'MARTY_JSON_RPC_ADDRESS_CONNECTIONS_EXHAUSTED',
    statusCode: 429,
    message: 'There are too many connections from this address'
  })

export const ParseFailed: MartyErrorConstructor<'MARTY_JSON_RPC_PARSE_FAILED'> = defineError({
  name: 'ParseFailed',
  code: 'MARTY_JSON_RPC_PARSE_FAILED',
  statusCode: 400,
  rpcCode: -32700,
  message: 'Parse error: the message is not JSON, or it has a forbidden member'
})

export const RequestInvalid: MartyErrorConstructor<'MARTY_JSON_RPC_REQUEST_INVALID'> = defineError({
  name: 'RequestInvalid',
  code: 'MARTY_JSON_RPC_REQUEST_INVALID',
  statusCode: 400,
  rpcCode: -32600,
  message: 'Invalid request'
})

export const MethodUnknown: MartyErrorConstructor<'MARTY_JSON_RPC_METHOD_UNKNOWN'> = defineError({
  name: 'MethodUnknown',
  code: 'MARTY_JSON_RPC_METHOD_UNKNOWN',
  statusCode: 404,
  rpcCode: -32601,
  message: 'Method not found'
})

export const ParamsInvalid: MartyErrorConstructor<'MARTY_JSON_RPC_PARAMS_INVALID'> = defineError({
  name: 'ParamsInvalid',
  code: 'MARTY_JSON_RPC_PARAMS_INVALID',
  statusCode: 400,
  rpcCode: -32602,
  message: 'Invalid params'
})
