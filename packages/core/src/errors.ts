import { defineError, type MartyErrorConstructor } from './marty-error.js'

/** Stops the start: a route or RPC method does not say who may call it. */
export const RuleMissing: MartyErrorConstructor<'MARTY_CORE_RULE_MISSING'> = defineError({
  name: 'RuleMissing',
  code: 'MARTY_CORE_RULE_MISSING',
  statusCode: 500,
  message: 'An operation has no security rule'
})

/** Stops the start: a rule cannot be enforced as written. */
export const RuleInvalid: MartyErrorConstructor<'MARTY_CORE_RULE_INVALID'> = defineError({
  name: 'RuleInvalid',
  code: 'MARTY_CORE_RULE_INVALID',
  statusCode: 500,
  message: 'A security rule is not valid'
})

/** Stops the start: the guard was registered in a child scope, so routes outside it would be open. */
export const GuardScope: MartyErrorConstructor<'MARTY_CORE_GUARD_SCOPE'> = defineError({
  name: 'GuardScope',
  code: 'MARTY_CORE_GUARD_SCOPE',
  statusCode: 500,
  message: 'The guard was registered inside a scope of its own'
})

/** Stops the start: the guard does not cover a route, or the route's rule was changed after the guard had read it. */
export const RouteUnguarded: MartyErrorConstructor<'MARTY_CORE_ROUTE_UNGUARDED'> = defineError({
  name: 'RouteUnguarded',
  code: 'MARTY_CORE_ROUTE_UNGUARDED',
  statusCode: 500,
  message: 'A route is not guarded as its rule is written'
})

/** Denies a request to a route that the check at startup did not see. */
export const RouteUndeclared: MartyErrorConstructor<'MARTY_CORE_ROUTE_UNDECLARED'> = defineError({
  name: 'RouteUndeclared',
  code: 'MARTY_CORE_ROUTE_UNDECLARED',
  statusCode: 403,
  message: 'This route does not say who may call it, so nobody may'
})

/** The request has no credential, but the operation requires one (RFC 6750 section 3). */
export const Unauthenticated: MartyErrorConstructor<'MARTY_CORE_UNAUTHENTICATED'> = defineError({
  name: 'Unauthenticated',
  code: 'MARTY_CORE_UNAUTHENTICATED',
  statusCode: 401,
  message: 'Authentication is required',
  headers: Object.freeze({ 'www-authenticate': 'Bearer' })
})

/** The credential is not valid. The response is the same for every reason (RFC 6750 section 3.1). */
export const CredentialInvalid: MartyErrorConstructor<'MARTY_CORE_CREDENTIAL_INVALID'> = defineError({
  name: 'CredentialInvalid',
  code: 'MARTY_CORE_CREDENTIAL_INVALID',
  statusCode: 401,
  message: 'The credential is not valid',
  headers: Object.freeze({ 'www-authenticate': 'Bearer error="invalid_token"' })
})

/** The bytes received on a connection are not an HTTP request. */
export const RequestMalformed: MartyErrorConstructor<'MARTY_CORE_REQUEST_MALFORMED'> = defineError({
  name: 'RequestMalformed',
  code: 'MARTY_CORE_REQUEST_MALFORMED',
  statusCode: 400,
  message: 'This is not a valid HTTP request'
})

/** The client did not send its request within the server's time limit. */
export const RequestTimeout: MartyErrorConstructor<'MARTY_CORE_REQUEST_TIMEOUT'> = defineError({
  name: 'RequestTimeout',
  code: 'MARTY_CORE_REQUEST_TIMEOUT',
  statusCode: 408,
  message: 'The request did not arrive in time'
})

/** The extensions of a chunked body (RFC 9112 section 7.1.1) are longer than Node accepts. */
export const ChunkExtensionsTooLarge: MartyErrorConstructor<'MARTY_CORE_CHUNK_EXTENSIONS_TOO_LARGE'> = defineError({
  name: 'ChunkExtensionsTooLarge',
  code: 'MARTY_CORE_CHUNK_EXTENSIONS_TOO_LARGE',
  statusCode: 413,
  message: 'The chunk extensions of the body are too large'
})

/** The URL and headers of a request are longer than Node accepts (RFC 6585 section 5). */
export const HeadersTooLarge: MartyErrorConstructor<'MARTY_CORE_HEADERS_TOO_LARGE'> = defineError({
  name: 'HeadersTooLarge',
  code: 'MARTY_CORE_HEADERS_TOO_LARGE',
  statusCode: 431,
  message: 'The headers of the request are too large'
})
