/** What an error contains besides its code. Never put secrets in it: most of it is sent to the caller. */
export interface ErrorDetails {
  /** Replaces the default message of the error. */
  readonly message?: string
  /** Response headers that belong to the error, such as `Retry-After`. */
  readonly headers?: Readonly<Record<string, string>>
  /** Machine-readable details: members of the problem document and of JSON-RPC's `error.data`. */
  readonly data?: Readonly<Record<string, unknown>>
  /**
   * The reason, for the log and the audit log only; never sent. A word from our own code, never input of the caller.
   */
  readonly reason?: string
  readonly cause?: unknown
}

/** What all errors with one code have in common. */
export interface ErrorDefinition<Code extends string = string> {
  /** The name of the class, and the `name` of its errors. Stack traces start with it. */
  readonly name: string
  readonly code: Code
  /** HTTP status; errors that stop the start use 500. */
  readonly statusCode: number
  /** JSON-RPC 2.0 error code. @default derived from the status, see {@link rpcCodeOf} */
  readonly rpcCode?: number
  readonly message: string
  /** Response headers of every error with this code, in addition to those of the individual error. @default none */
  readonly headers?: Readonly<Record<string, string>>
  /** Problem type URI (RFC 9457 section 3.1.1). @default `urn:marty:error:CODE` */
  readonly type?: string
}

/** False when Node runs with `--frozen-intrinsics`. */
const isLimitWritable = Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit')?.writable === true

/** Base class of all errors of this framework, with a stable code for both transports. Below 500 they have no stack. */
export class MartyError extends Error {
  readonly code: string
  readonly statusCode: number
  readonly rpcCode: number
  readonly type: string
  readonly headers: Readonly<Record<string, string>>
  readonly data: Readonly<Record<string, unknown>>
  /** The reason, for the log and the audit log only; never sent. Undefined when the code says enough. */
  readonly reason: string | undefined

  static {
    setName(this, 'MartyError')
  }

  constructor (definition: ErrorDefinition, details: ErrorDetails = {}) {
    // A refusal is a normal response, not a fault. No one needs its stack, and capturing it doubles the cost.
    const depth = Error.stackTraceLimit
    const isRefusal = definition.statusCode < 500 && isLimitWritable
    if (isRefusal) Error.stackTraceLimit = 0
    super(details.message ?? definition.message, details.cause === undefined ? undefined : { cause: details.cause })
    if (isRefusal) Error.stackTraceLimit = depth
    this.code = definition.code
    this.statusCode = definition.statusCode
    this.rpcCode = definition.rpcCode ?? rpcCodeOf(definition.statusCode)
    this.type = definition.type ?? `urn:marty:error:${definition.code}`
    this.headers = headersOf(definition, details)
    this.data = details.data ?? {}
    this.reason = details.reason
  }
}

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({})

/** Most errors have only one of the two, so the headers need no copy. */
function headersOf (
  { headers: standing }: ErrorDefinition,
  { headers }: ErrorDetails
): Readonly<Record<string, string>> {
  if (standing === undefined) return headers ?? NO_HEADERS
  return headers === undefined ? standing : { ...standing, ...headers }
}

export interface MartyErrorConstructor<Code extends string = string> {
  new (details?: ErrorDetails | string): MartyError & { readonly code: Code }
  readonly definition: ErrorDefinition<Code>
}

/**
 * Creates an error class with a fixed name and code. A string argument of its constructor is short for `{ message }`.
 *
 * @example
 * export const TokenInvalid: MartyErrorConstructor<'MARTY_AUTH_TOKEN_INVALID'> =
 *   defineError({
 *     name: 'TokenInvalid',
 *     code: 'MARTY_AUTH_TOKEN_INVALID',
 *     statusCode: 401,
 *     message: 'The token is not valid'
 *   })
 */
export function defineError<const Code extends string> (
  definition: ErrorDefinition<Code>
): MartyErrorConstructor<Code> {
  class Defined extends MartyError {
    static readonly definition: ErrorDefinition<Code> = definition
    declare readonly code: Code
    constructor (details: ErrorDetails | string = {}) {
      super(definition, typeof details === 'string' ? { message: details } : details)
    }
  }
  setName(Defined, definition.name)
  return Defined
}

/** Names the class and its errors. On the prototype, because V8 writes the first line of a stack from it. */
function setName (errorClass: typeof MartyError, name: string): void {
  const property = { value: name, writable: true, configurable: true }
  Object.defineProperty(errorClass, 'name', { ...property, writable: false })
  Object.defineProperty(errorClass.prototype, 'name', property)
}

/** JSON-RPC error code for an HTTP status: an application code of the server range, or else a standard code. */
export function rpcCodeOf (statusCode: number): number {
  switch (statusCode) {
    case 400: case 413: case 415: case 422: return -32602
    case 401: return -32001
    case 403: return -32002
    case 404: return -32010
    case 409: return -32020
    case 501: return -32030
    case 429: return -32040
    case 502: case 503: case 504: return -32050
    case 507: return -32060
    default: return -32603
  }
}
