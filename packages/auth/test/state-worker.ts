// One replica in a process of its own: does what its parent asks, and answers with the result or the code of the error.
import Fastify from 'fastify'
import { auth, createRefreshTokens, createRevocations } from '@marty/auth'
import { ANONYMOUS, type Principal } from '@marty/core'
import { openRedis } from '@marty/redis'
import { SECRET, TOKENS } from '@marty/testing/tokens'

const redis = openRedis({ host: '127.0.0.1', port: Number(process.argv[2]), reconnectMaxDelayMs: 50 })
await redis.ready(10_000)
const store = { redis: redis.client, prefix: 'service' }
const app = Fastify()
await app.register(auth, { ...TOKENS, store })
await app.ready()
const revocations = createRevocations(store, { maxLifetimeSeconds: 3_600 })
await revocations.start()
const reuses: string[] = []
const refresh = createRefreshTokens(store, {
  secret: Buffer.from(SECRET),
  revocations,
  idleSeconds: 600,
  absoluteSeconds: 600,
  graceSeconds: 10,
  onReuse: sid => {
    reuses.push(sid)
  }
})
let live: Principal = ANONYMOUS

const codeOf = (error: unknown): string => (error as { code?: string }).code ?? String(error)

const actions = {
  sign: async (subject: string, sid: string) => app.jwt.sign({ sub: subject, sid }),
  verify: async (token: string) => app.auth.tokens.verify(token).sub,
  connect: async (token: string) => { live = await app.guard.authenticate(token, { address: null, requestId: '1' }) },
  alive: async () => await app.guard.isAlive(live),
  revoke: async (jti: string, expiresAt: number) => { await app.auth.tokens.revoke(jti, expiresAt) },
  revokeSubject: async (subject: string) => { await app.auth.tokens.revokeSubject(subject) },
  revokeFamily: async (sid: string) => { await app.auth.tokens.revokeFamily(sid) },
  issue: async (subject: string) =>
    await refresh.issue({ subject, kind: 'user', roles: [], scopes: [], source: ANONYMOUS }),
  issueMany: async (subject: string, times: number) =>
    await Promise.all(
      Array.from(
        { length: times },
        async () =>
          await refresh
            .issue({ subject, kind: 'user', roles: [], scopes: [], source: ANONYMOUS })
            .then(({ token }) => token, codeOf)
      )
    ),
  inspect: async (token: string) => (await refresh.inspect(token)) !== null,
  rotate: async (token: string) => await refresh.rotate(token),
  rotateMany: async (token: string, times: number) =>
    await Promise.all(
      Array.from({ length: times }, async () => await refresh.rotate(token).then(answer => answer.token, codeOf))
    ),
  reuses: async () => reuses,
  close: async () => {
    revocations.close()
    await app.close()
    await redis.close()
    // Nothing but the parent's channel may keep the process.
    setImmediate(() => { process.disconnect() })
  }
}

export type Actions = typeof actions

process.on('message', ({ id, action, args }: { id: number, action: keyof Actions, args: never[] }) => {
  const run = actions[action] as (...args: unknown[]) => Promise<unknown>
  run(...args).then(
    value => {
      process.send?.({ id, value })
    },
    error => {
      process.send?.({ id, code: codeOf(error) })
    }
  )
})
process.send?.({ id: 0 })
