import type { FastifyInstance } from 'fastify'

/** `GET /auth/me`: the caller's principal, as this service sees it. */
export function registerMeRoute (fastify: FastifyInstance): void {
  fastify.get('/auth/me', { config: { security: { authenticate: true } } }, async (request, reply) => {
    const { id, kind, roles, scopes, authenticatedBy, expiresAt } = request.principal
    void reply.header('cache-control', 'no-store')
    return {
      id,
      kind,
      roles,
      scopes,
      authenticated_by: authenticatedBy,
      expires_at: expiresAt === null ? null : new Date(expiresAt).toISOString()
    }
  })
}
