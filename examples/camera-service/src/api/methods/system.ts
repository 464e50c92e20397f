import type { FastifyInstance } from 'fastify'
import type { ApiParts } from '../parts.js'

/** get_versions. */
export function systemMethods (app: FastifyInstance, parts: ApiParts): void {
  app.rpc.method({
    name: 'get_versions',
    summary: 'Versions of the service and of the programs that it runs. The public health endpoints do not show them.',
    security: { permission: 'system:view' },
    handler: async () => await parts.versions()
  })
}
