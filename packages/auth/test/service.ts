import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { createHmac } from 'node:crypto'
import { auth, type AuthOptions } from '@marty/auth'
import { ANONYMOUS, problemErrorHandler, useGuard, type Principal, type SecurityEvent } from '@marty/core'
import { AUDIENCE, encode, ISSUER, now, SECRET, TOKENS } from '@marty/testing/tokens'

/** A tiny service whose `GET /who` asks who is calling. */
export async function build (
  t: Test,
  options: Partial<AuthOptions> = {},
  events: SecurityEvent[] = []
): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  useGuard(app, { strict: true }).addSink(event => { events.push(event) })
  app.setErrorHandler(problemErrorHandler)
  await app.register(auth, { ...TOKENS, ...options })
  app.get('/who', { config: { security: { authenticate: true } } }, async request => request.principal)
  return app
}

/** Somebody who signed in with a token that lives for an hour. */
export const principal = (id: string, changes: Partial<Principal> = {}): Principal => ({
  ...ANONYMOUS,
  id,
  kind: 'user',
  roles: ['viewer'],
  session: `jti of ${id}`,
  authenticatedBy: 'jwt',
  expiresAt: Date.now() + 3_600_000,
  ...changes
})

export const validHeader = (): Record<string, unknown> => ({ alg: 'HS256', typ: 'at+jwt', kid: 'k1' })

export const validClaims = (): Record<string, unknown> => ({
  iss: ISSUER, aud: AUDIENCE, sub: 'alice', user_id: 'alice', role: 'viewer', iat: now(), exp: now() + 60, jti: 'id-1'
})

/** A token of any header and payload, given as objects or as raw text, really signed. */
export function forge (header: unknown, payload: unknown, secret = SECRET, hash = 'sha256'): string {
  const input = `${encode(header)}.${encode(payload)}`
  return `${input}.${createHmac(hash, secret).update(input).digest('base64url')}`
}

/** The one answer of `/who` to every wrong credential, but for its request id. */
export const REFUSAL: Readonly<Record<string, unknown>> = Object.freeze({
  type: 'urn:marty:error:MARTY_CORE_CREDENTIAL_INVALID',
  title: 'Unauthorized',
  status: 401,
  detail: 'The credential is not valid',
  instance: '/who',
  code: 'MARTY_CORE_CREDENTIAL_INVALID'
})
