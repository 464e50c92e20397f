import type { GuardedOperation, PermissionName, Principal, SecurityRule } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import type { Static, TObject, TSchema } from 'typebox'
import type { RpcConnection } from './connection.js'

/** What a handler knows besides its params. */
export interface RpcContext {
  /** Who is calling; `ANONYMOUS` when nobody has authenticated, or the credential has expired. */
  readonly principal: Principal
  /** Correlates logs, audit events and the answer, where errors carry it as `data.request_id`. */
  readonly id: string
  /** The connection that calls; null for a POST. */
  readonly connection: RpcConnection | null
  /** The caller's address after trusted proxies; null when the transport has none. */
  readonly address: string | null
  readonly log: FastifyBaseLogger
  /**
   * Whether the caller is allowed a permission on a resource; what `resource` does not tell never widens.
   * Throws when no registered plugin decides about permissions, or the name is unknown.
   */
  can (permission: PermissionName, resource?: Readonly<Record<string, unknown>>): boolean
  /** Aborts when nobody is left to answer. */
  readonly signal: AbortSignal
}

export type RpcHandler<Params extends TObject, Result extends TSchema> =
  (params: Static<Params>, context: RpcContext) => Static<Result> | Promise<Static<Result>>

/** The security rule of a method: its members that are functions, such as loaders, get the method's params and context. */
export type RpcSecurityRule<Params extends TObject> = {
  readonly [Key in keyof SecurityRule]: NonNullable<SecurityRule[Key]> extends (...input: never) => infer Loaded
    ? (params: Static<Params>, context: RpcContext) => Loaded
    : SecurityRule[Key]
}

export type NoParams = TObject<Record<never, never>>

/** How a service declares a method. */
export interface RpcMethodOptions<Params extends TObject = NoParams, Result extends TSchema = TSchema> {
  /** Letters, digits, `_` and `.`, starting with a letter. Names starting with `rpc.` belong to the protocol. */
  readonly name: string
  /** Who may call it. */
  readonly security: RpcSecurityRule<Params>
  /**
   * Params by name. Unknown ones are refused unless the schema says `additionalProperties`.
   * @default no params
   */
  readonly params?: Params
  /** What the handler returns, for documents and the handler's type. */
  readonly result?: Result
  /** One line for documents. */
  readonly summary?: string
  /** Coded errors it throws are told to the caller, any other is logged and told as -32603. `undefined` is answered as null. */
  readonly handler: RpcHandler<Params, Result>
}

/** A declared method, for documents. */
export interface RpcMethod {
  readonly name: string
  readonly summary: string | null
  readonly security: SecurityRule
  readonly params: TObject
  /** Null when the service did not say. */
  readonly result: TSchema | null
}

/** A declared method, ready to be called. */
export interface CallableMethod extends RpcMethod {
  readonly operation: GuardedOperation
  readonly readParams: (params: object | undefined) => object
  readonly handler: (params: never, context: RpcContext) => unknown
  /** Whether every call is told to the sinks, not only refused ones. */
  readonly isAudited: boolean
  /** The credential in the params, for the guard to judge; null for methods called with the connection's own. */
  readonly credentialOf: ((params: never) => string) | null
}
