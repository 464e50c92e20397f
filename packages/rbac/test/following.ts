import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { ANONYMOUS, problemErrorHandler, useGuard, type Authenticator } from '@marty/core'
import { rbac, type Policy } from '@marty/rbac'

/** The value of the header is the caller's roles. */
export const byRoles: Authenticator = {
  method: 'jwt',
  find: ({ headers }) => headers.authorization ?? null,
  accepts: () => true,
  authenticate: roles => ({
    ...ANONYMOUS,
    id: 'someone',
    kind: 'user',
    roles: roles.split(','),
    authenticatedBy: 'jwt'
  })
}

/** An application with a policy in a file of its own, and how to give it another. Throws what is wrong with that. */
export async function following (
  t: Test,
  text: string
): Promise<{ readonly app: FastifyInstance; load(text: string): Promise<Policy> }> {
  const folder = mkdtempSync(join(tmpdir(), 'marty-reload-'))
  const file = join(folder, 'rbac.yaml')
  writeFileSync(file, text)
  const app = Fastify()
  t.teardown(async () => {
    await app.close()
    rmSync(folder, { recursive: true })
  })
  useGuard(app, { strict: true }).addAuthenticator(byRoles)
  app.setErrorHandler(problemErrorHandler)
  await app.register(rbac, { policyFile: file, environment: 'prod', reload: false })
  return {
    app,
    async load (text) {
      writeFileSync(file, text)
      const { stale, problems } = await app.rbac.reload()
      if (stale) throw new Error(problems.map(({ message }) => message).join('\n'))
      return app.rbac.policy
    }
  }
}
