import t from 'tap'
import { createLockout, createRefreshTokens, createRevocations, createSessionStore } from '@marty/auth'
import { ANONYMOUS } from '@marty/core'
import { openRedis } from '@marty/redis'
import { blockLoopFor, blockLoopUntil, freePort, redisCli, startRedis, until } from '@marty/testing'
import { principal } from './service.js'

const COUNT = 10

/** Scripts that a server has carried out. */
function scriptsRun (port: number): number {
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(redisCli(port, 'info', 'commandstats'))?.[1] ?? 0)
}

t.test('a busy event loop is not taken for a dead store: renewals, sessions, revocations and lockouts go through', async t => {
  const { port, stop } = await startRedis(await freePort())
  t.teardown(() => stop())
  const connection = openRedis({ port })
  t.teardown(() => connection.close())
  await connection.ready(10_000)
  const store = { redis: connection.client, prefix: 'stalls' }
  const revocations = createRevocations(store, { maxLifetimeSeconds: 3_600 })
  t.teardown(() => { revocations.close() })
  await revocations.start()
  await until(() => revocations.health().status !== 'unhealthy', 'the first synchronisation')
  const refresh = createRefreshTokens(store, {
    secret: Buffer.from('a secret of more than thirty-two bytes, for tests'),
    revocations,
    idleSeconds: 100,
    absoluteSeconds: 300,
    graceSeconds: 10,
    onReuse: () => {}
  })
  const sessions = createSessionStore(store)
  const lockout = createLockout(store)
  const issue = async (): Promise<string> => (await refresh.issue({
    subject: 'alice',
    kind: 'user',
    roles: [],
    scopes: [],
    source: { ...ANONYMOUS, id: 'alice', kind: 'user', authenticatedBy: 'jwt' }
  })).token

  const calls: Record<string, (i: number) => Promise<unknown>> = {
    issue,
    rotate: async i => await refresh.rotate(tokens[i]!),
    session: async i => await sessions.create(principal(`user-${i}`)),
    revoke: async i => { await revocations.revokeToken(`token-${i}`, Date.now() + 60_000) },
    lockout: async i => { await lockout.check(`account-${i}`, '192.0.2.1') }
  }
  const tokens: string[] = []
  for (let i = 0; i < COUNT + 5; i++) {
    await until(
      () =>
        issue().then(
          token => tokens.push(token) > 0,
          () => false
        ),
      'a token'
    )
  }
  // The scripts are known to the server from now on.
  for (const name of ['session', 'revoke', 'lockout']) {
    await until(
      () =>
        calls[name]!(COUNT).then(
          () => true,
          () => false
        ),
      name
    )
  }
  await until(
    () =>
      refresh.rotate(tokens.pop()!).then(
        () => true,
        () => false
      ),
    'rotate'
  )
  for (const [name, call] of Object.entries(calls)) {
    const before = scriptsRun(port)
    const answers = Promise.allSettled(Array.from({ length: COUNT }, (_, i) => call(i)))
    await new Promise(setImmediate)
    blockLoopUntil(() => scriptsRun(port) >= before + COUNT)
    blockLoopFor(80)
    t.same(
      (await answers).filter(answer => answer.status === 'rejected').map(({ reason }) => String(reason)),
      [],
      name
    )
  }
})
