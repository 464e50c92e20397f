import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { audit, type AuditOptions } from '@marty/audit'
import {
  ANONYMOUS,
  CredentialInvalid,
  defineError,
  problemErrorHandler,
  useGuard,
  type SecurityEvent
} from '@marty/core'

export const PRODUCT = { name: 'test-service', version: '1.2.3' }
export type Line = Record<string, unknown> & {
  seq: number
  activity_name: string
  status: string
  hash: string
  prev: string
}

export function logFile (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'marty-audit-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  return join(folder, 'logs', 'audit.log')
}

export const linesOf = (file: string): Line[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as Line)

export const event = (changes: Partial<SecurityEvent> = {}): SecurityEvent => ({
  type: 'operation',
  action: 'test.act',
  outcome: 'success',
  reason: null,
  principal: { id: 'alice', kind: 'user', roles: ['viewer'] },
  address: '192.0.2.1',
  requestId: 'r-1',
  ...changes
})

const Teapot = defineError({ name: 'Teapot', code: 'TEST_TEAPOT', statusCode: 409, message: 'no' })

/** A service in which `Bearer alice` is alice; not started yet, so that routes can be added. */
export async function build (t: Test, options: Partial<AuditOptions>): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  const guard = useGuard(app, { strict: true })
  guard.addAuthenticator({
    method: 'jwt',
    find: ({ headers: { authorization } }) => authorization ?? null,
    accepts: () => true,
    authenticate (token) {
      if (token !== 'Bearer alice') throw new CredentialInvalid()
      return { ...ANONYMOUS, id: 'alice', kind: 'user', roles: ['viewer'], authenticatedBy: 'jwt' }
    }
  })
  app.setErrorHandler(problemErrorHandler)
  await app.register(audit, { sink: 'none', product: PRODUCT, ...options })
  app.get('/all', { config: { security: { authenticate: true, audit: 'all' } } }, async () => 'ok')
  app.get('/fails', { config: { security: { authenticate: true, audit: 'all' } } }, async () => {
    throw new Teapot()
  })
  app.get('/denied', { config: { security: { authenticate: true, audit: 'denied' } } }, async () => 'ok')
  app.get('/default', { config: { security: { authenticate: true } } }, async () => 'ok')
  app.get('/none', { config: { security: { authenticate: true, audit: 'none' } } }, async () => 'ok')
  app.get('/public', { config: { security: { public: true, audit: 'all' } } }, async () => 'ok')
  return app
}
