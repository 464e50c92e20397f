import type { AuthenticationMethod } from '@marty/core'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { credentialsOf } from '../credentials.js'
import type { SessionCookie } from './cookie.js'
import { csrfTokenOf } from './id.js'
import type { Sessions } from './sessions.js'

export interface SessionRouteParts {
  readonly sessions: Sessions
  readonly cookie: SessionCookie
  readonly idleMs: number
  /** The authentication methods the guard supports. */
  readonly methods: readonly AuthenticationMethod[]
}

/** Excludes `session`: a session that could create a new one could be extended forever. */
const SIGN_IN: readonly AuthenticationMethod[] = ['jwt', 'apiKey', 'mtls', 'assertion']

/**
 * Registers `POST`, `GET` and `DELETE /auth/session` and `DELETE /auth/sessions`, with which a page
 * signs in and out.
 */
export function registerSessionRoutes (
  fastify: FastifyInstance,
  { sessions, cookie, idleMs, methods }: SessionRouteParts
): void {
  const bySession = { config: { security: { authenticate: ['session'] as const } } }

  // The browser sends a client certificate by itself, so another site must not be able to sign its
  // visitor in.
  const signIn = { sameOrigin: true, authenticate: SIGN_IN.filter(method => methods.includes(method)) } as const
  fastify.post('/auth/session', { config: { security: signIn } }, async (request, reply) => {
    const issued = await sessions.create(request.principal, {
      address: request.ip,
      userAgent: request.headers['user-agent'] ?? null,
      replaces: cookie.read(request.raw)
    })
    return await reply
      .code(201)
      .header('set-cookie', cookie.of(issued))
      .header('cache-control', 'no-store')
      .send({ expires_at: new Date(issued.expiresAt).toISOString(), csrf_token: issued.csrfToken })
  })

  fastify.get('/auth/session', bySession, async (request, reply) => {
    void reply.header('cache-control', 'no-store')
    return {
      csrf_token: csrfTokenOf(credentialsOf(request.raw).bearer ?? cookie.read(request.raw)!),
      expires_at: new Date(request.principal.expiresAt!).toISOString(),
      idle_seconds: idleMs / 1000
    }
  })

  const endOwn = { sameOrigin: true, authenticate: ['session'] } as const
  fastify.delete('/auth/session', { config: { security: endOwn } }, async (request, reply) => {
    await sessions.revokeByKey(request.principal.session!)
    if (isByCookie(request)) void reply.header('set-cookie', cookie.cleared)
    return await reply.code(204).header('cache-control', 'no-store').send()
  })

  const endAll = { sameOrigin: true, authenticate: true } as const
  fastify.delete('/auth/sessions', { config: { security: endAll } }, async (request, reply) => {
    const ended = await sessions.revokeAll(request.principal)
    if (isByCookie(request)) void reply.header('set-cookie', cookie.cleared)
    void reply.header('cache-control', 'no-store')
    return { ended }
  })
}

/** Clear the cookie only if it carried the session that was used: another session may still be valid. */
function isByCookie ({ principal, raw }: FastifyRequest): boolean {
  return principal.authenticatedBy === 'session' && credentialsOf(raw).bearer === null
}
