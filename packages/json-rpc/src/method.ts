import type { GuardedOperation, PermissionName, Principal, SecurityRule } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import type { Static, TObject, TSchema } from 'typebox'
import type { RpcConnection } from './connection.js'

/** What a handler gets in addition to its params. */
export interface RpcContext {
  /** The caller; `ANONYMOUS` when it has not authenticated, or its credential has expired. */
  readonly principal: Principal
  /** Correlates logs, audit events and the response, where errors contain it as `data.request_id`. */
  readonly id: string
  /** The connection of the caller; null for a POST. */
  readonly connection: RpcConnection | null
  /** The client's address, with trusted proxies taken into account; null when the transport has none. */
  readonly address: string | null
  readonly log: FastifyBaseLogger
  /**
   * Whether the caller has a permission on a resource. An attribute missing from `resource` never grants access.
   * Throws when no registered plugin decides about permissions, or the name is unknown.
   */
  can (permission: PermissionName, resource?: Readonly<Record<string, unknown>>): boolean
  /** Aborts when the client is gone, so that there is no one left to answer. */
  readonly signal: AbortSignal
}

export type RpcHandler<Params extends TObject, Result extends TSchema> =
  (params: Static<Params>, context: RpcContext) => Static<Result> | Promise<Static<Result>>

/** The security rule of a method. Members that are functions, such as loaders, get the method's params and context. */
export type RpcSecurityRule<Params extends TObject> = {
  readonly [Key in keyof SecurityRule]: NonNullable<SecurityRule[Key]> extends (...input: never) => infer Loaded
    ? (params: Static<Params>, context: RpcContext) => Loaded
    : SecurityRule[Key]
}

export type NoParams = TObject<Record<never, never>>

/** Options of a method. */
export interface RpcMethodOptions<Params extends TObject = NoParams, Result extends TSchema = TSchema> {
  /** Letters, digits, `_` and `.`, starting with a letter. Names starting with `rpc.` belong to the protocol. */
  readonly name: string
  /** Who may call it. */
  readonly security: RpcSecurityRule<Params>
  /**
   * Params by name. Unknown ones are refused unless the schema sets `additionalProperties`.
   * @default no params
   */
  readonly params?: Params
  /** The schema of what the handler returns, for documentation and the handler's type. */
  readonly result?: Result
  /** One line for the documentation. */
  readonly summary?: string
  /**
   * Coded errors that it throws are sent to the caller. Any other error is logged and answered with -32603. `undefined`
   * is answered as null.
   */
  readonly handler: RpcHandler<Params, Result>
}

/** A declared method, for documentation. */
export interface RpcMethod {
  readonly name: string
  readonly summary: string | null
  readonly security: SecurityRule
  readonly params: TObject
  /** Null when the service did not declare it. */
  readonly result: TSchema | null
}

/** A declared method, ready to be called. */
export interface CallableMethod extends RpcMethod {
  readonly operation: GuardedOperation
  readonly readParams: (params: object | undefined) => object
  readonly handler: (params: never, context: RpcContext) => unknown
  /** Whether every call is reported to the sinks, not only refused ones. */
  readonly isAudited: boolean
  /** Reads the credential from the params, for the guard to verify; null for methods that use the connection's own. */
  readonly credentialOf: ((params: never) => string) | null
}
