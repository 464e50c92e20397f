import t, { type Test } from 'tap'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { createSessionStore } from '@marty/auth'
import { openRedis } from '@marty/redis'
import { freePort, type RedisServer, startRedis, until } from '@marty/testing'
import { build, principal } from './service.js'
import type { Question } from './session-replica.js'

type Ask = (question: Question) => Promise<unknown>

/** A replica in a process of its own; asking it answers with the code of its error when there was one. */
async function startReplica (t: Test, port: number): Promise<Ask> {
  const child = fork(fileURLToPath(new URL('session-replica.js', import.meta.url)), [String(port)])
  t.teardown(() => { child.kill('SIGKILL') })
  await once(child, 'message')
  const waiting = new Map<number, (value: unknown) => void>()
  child.on('message', ({ number, value, code }: { number: number; value?: unknown; code?: string }) => {
    waiting.get(number)!(code ?? value)
  })
  let count = 0
  return async question => await new Promise(resolve => {
    waiting.set(++count, resolve)
    child.send({ number: count, question })
  })
}

async function redisFor (t: Test): Promise<{ port: number, server: RedisServer }> {
  const port = await freePort()
  const server = await startRedis(port)
  t.teardown(async () => { await server.stop() })
  return { port, server }
}

const UNAVAILABLE = 'MARTY_AUTH_STORE_UNAVAILABLE'

t.test('of a hundred sessions made at once by two processes sixteen remain', async t => {
  const { port } = await redisFor(t)
  const [one, two] = await Promise.all([startReplica(t, port), startReplica(t, port)])
  const made = (
    await Promise.all([
      one({ ask: 'create', who: 'alice', count: 50 }),
      two({ ask: 'create', who: 'alice', count: 50 })
    ])
  ).flat() as Array<string | null>
  t.ok(made.filter(id => id !== null).length > 16)
  const alive = await Promise.all(
    made.filter(id => id !== null).map(async (id, i) => await (i % 2 === 0 ? one : two)({ ask: 'get', id }))
  )
  t.ok(alive.filter(id => id === 'alice').length <= 16)
  const redis = openRedis({ url: `redis://127.0.0.1:${port}`, commandTimeoutMs: 2_000 })
  t.teardown(async () => { await redis.close() })
  await redis.ready(5_000)
  const sessions = createSessionStore({ redis: redis.client, prefix: 'replicas' })
  t.equal((await sessions.list()).length, 16)
})

t.test('signing out in one process is seen by the other within a second, on live connections too', async t => {
  const { port } = await redisFor(t)
  const [one, two] = await Promise.all([startReplica(t, port), startReplica(t, port)])
  const [first, second, others] = await one({ ask: 'create', who: 'alice', count: 3 }) as string[]
  const [bob] = await one({ ask: 'create', who: 'bob', count: 1 }) as string[]
  for (const id of [first, second, others]) t.equal(await two({ ask: 'get', id: id! }), 'alice')
  t.equal(await two({ ask: 'remember', id: second! }), 'alice')
  t.equal(await two({ ask: 'isAlive' }), true)

  t.equal(await one({ ask: 'revoke', id: first! }), true)
  await until(async () => await two({ ask: 'get', id: first! }) === null, 'the sign-out to be seen')
  t.equal(await two({ ask: 'get', id: second! }), 'alice')

  t.equal(await one({ ask: 'revokeAll', who: 'alice' }), 2)
  await until(async () => await two({ ask: 'peek' }) === false, 'the live connection to lose its principal')
  t.equal(await two({ ask: 'isAlive' }), false)
  t.equal(await two({ ask: 'get', id: others! }), null)
  t.equal(await two({ ask: 'get', id: bob! }), 'bob')
})

t.test('while Redis is frozen or gone nobody is let in on a guess, and nothing hangs', async t => {
  const { port, server } = await redisFor(t)
  const one = await startReplica(t, port)
  const [id, other] = await one({ ask: 'create', who: 'alice', count: 2 }) as string[]
  t.equal(await one({ ask: 'remember', id: id! }), 'alice')

  const isDown = async (): Promise<void> => {
    await until(
      async () => (await one({ ask: 'get', id: id! })) === UNAVAILABLE,
      'what was read a moment ago to be too old'
    )
    t.equal(await one({ ask: 'isAlive' }), UNAVAILABLE)
    t.equal(await one({ ask: 'peek' }), UNAVAILABLE)
    t.strictSame(await one({ ask: 'create', who: 'bob', count: 2 }), [null, null])
    t.equal(await one({ ask: 'revokeAll', who: 'alice' }), UNAVAILABLE)
  }
  server.child.kill('SIGSTOP')
  await isDown()
  t.equal(await one({ ask: 'revoke', id: other! }), UNAVAILABLE, 'it is not claimed to be over')
  server.child.kill('SIGCONT')
  await until(
    async () => await one({ ask: 'create', who: 'carol', count: 1 }).then(made => (made as unknown[])[0] !== null),
    'Redis to answer again'
  )

  await server.stop('SIGKILL')
  await isDown()
  const again = await startRedis(port)
  t.teardown(async () => { await again.stop() })
  await until(async () => await one({ ask: 'get', id: id! }) === null, 'the empty Redis to answer')
  t.equal(await one({ ask: 'peek' }), false, 'what Redis has forgotten is over')
})

t.test('over HTTP an outage is a 503 and keeps the cookie; a server that lost its scripts is no outage', async t => {
  const { port, server } = await redisFor(t)
  const redis = openRedis({ url: `redis://127.0.0.1:${port}` })
  t.teardown(async () => { await redis.close() })
  await redis.ready(5_000)
  const app = await build(t, { routes: true, store: { redis: redis.client } })
  const { id } = await app.auth.sessions!.create(principal('alice'))
  const cookies = { [app.auth.sessionCookie!.name]: id }
  t.equal((await app.inject({ url: '/who', cookies })).statusCode, 200)
  await redis.client.script('FLUSH')
  t.equal((await app.inject({ url: '/auth/session', cookies })).statusCode, 200)

  await server.stop('SIGKILL')
  let answer = await app.inject({ url: '/who', cookies })
  await until(async () => {
    answer = await app.inject({ url: '/who', cookies })
    return answer.statusCode !== 200
  }, 'the outage to show')
  t.match(answer.json(), { status: 503, code: UNAVAILABLE })
  t.equal(answer.headers['set-cookie'], undefined)
  t.equal(answer.headers['retry-after'], '1')
  const signIn = await app.inject({
    method: 'POST',
    url: '/auth/session',
    headers: { authorization: `Bearer ${app.auth.tokens.issue({ subject: 'alice' }).token}` }
  })
  t.match(signIn.json(), { status: 503, code: UNAVAILABLE })
  t.equal(signIn.headers['set-cookie'], undefined)
})
