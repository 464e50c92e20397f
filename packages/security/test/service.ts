import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { security, type SecurityOptions } from '@marty/security'

export const POLICY = `
version: 1
resources:
  report: { description: What the tests read, actions: [read, write] }
roles:
  reader: { description: Reads, allow: ['report:read'] }
  writer: { description: Writes, inherits: [reader], allow: ['report:write'] }
environments:
  development: {}
  production:
    deny:
      - { roles: [writer], permissions: ['report:write'], reason: nobody writes in production }
`

export interface Service {
  readonly app: FastifyInstance
  readonly logs: string[]
  readonly auditFile: string
  bearer (subject: string, role: string): { authorization: string }
}

export function optionsFor (auditFile: string): SecurityOptions {
  return {
    environment: 'development',
    auth: {
      issuer: 'test',
      audience: 'test',
      keys: { signing: { kid: 'k', algorithm: 'HS256', secret: randomBytes(32) } }
    },
    rbac: { policy: POLICY },
    limits: {
      rules: {
        few: { limit: 2, windowMs: 60_000, by: 'principal' },
        guesses: { limit: 3, windowMs: 60_000, by: 'address' }
      },
      onAuthenticationFailure: ['guesses']
    },
    headers: {},
    audit: { sink: { file: auditFile, mode: 'sync' }, product: { name: 'test', version: '1.0.0' } }
  }
}

/** A service with every part real; `change` alters the options. */
export async function createService (
  t: Test,
  change: (options: SecurityOptions) => object = options => options
): Promise<Service> {
  const folder = mkdtempSync(join(tmpdir(), 'security-test-'))
  const auditFile = join(folder, 'audit.log')
  const logs: string[] = []
  const app = Fastify({
    logger: {
      level: 'info',
      stream: {
        write: (line: string) => {
          logs.push(line)
        }
      }
    }
  }) as unknown as FastifyInstance
  t.teardown(async () => {
    await app.close()
    rmSync(folder, { recursive: true })
  })
  await app.register(security, change(optionsFor(auditFile)) as SecurityOptions)
  return {
    app,
    logs,
    auditFile,
    bearer: (subject, role) => ({ authorization: `Bearer ${app.auth.tokens.issue({ subject, role }).token}` })
  }
}
