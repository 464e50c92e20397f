import type { TObject, TSchema } from 'typebox'
import type { RpcConnection } from './connection.js'
import type { NoParams, RpcMethod, RpcMethodOptions } from './method.js'

/** What `fastify.rpc` offers. */
export interface Rpc {
  /**
   * Declares a method. Throws `MARTY_JSON_RPC_METHOD_DUPLICATE` and `MARTY_JSON_RPC_METHOD_INVALID`; without
   * `security` the application does not start (`MARTY_CORE_RULE_MISSING`).
   */
  method<Params extends TObject = NoParams, Result extends TSchema = TSchema>(
    options: RpcMethodOptions<Params, Result>
  ): void
  /** Every declared method, including the built-in one, for documentation. */
  methods(): readonly RpcMethod[]
  /**
   * Sends a notification to every connection that `to` selects; returns the number of connections it was sent to.
   * @default to every connection that is authenticated
   */
  notify(method: string, params?: object, options?: { readonly to?: (connection: RpcConnection) => boolean }): number
  /** Every open connection. */
  connections(): readonly RpcConnection[]
}
