import type { Rpc } from './rpc.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** JSON-RPC 2.0 methods and connections. */
    rpc: Rpc
  }
}
