import t, { type Test } from 'tap'
import { openRedis, withinDeadline, type RedisConnection, type RedisOptions } from '@marty/redis'
import { blockLoopFor, blockLoopUntil, freePort, redisCli, type RedisServer, startRedis, until } from '@marty/testing'
import { ask, clusterArgs } from '@marty/testing/redis-topology'

/** Every test here runs with the shortest deadline that a busy machine cannot miss while the loop turns. */
const DEADLINE_MS = 50

async function open (t: Test, options: RedisOptions): Promise<RedisConnection> {
  const redis = openRedis({ commandTimeoutMs: DEADLINE_MS, ...options })
  t.teardown(() => redis.close())
  await redis.ready(10_000)
  return redis
}

const single = await startRedis(await freePort())
const node = await startRedis(await freePort(), [...(await clusterArgs()), '--cluster-announce-ip', '127.0.0.1'])
t.teardown(async () => {
  await single.stop()
  await node.stop()
})
await ask(node.port, client => client.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383'))

for (const [name, server, options] of [
  ['single', single, { port: single.port }],
  ['cluster', node, { cluster: [{ host: '127.0.0.1', port: node.port }] }]
] as const satisfies ReadonlyArray<readonly [string, RedisServer, RedisOptions]>) {
  for (const stallMs of [80, 200, 1_500]) {
    t.test(
      `${name}: answers that came while the event loop was busy for ${stallMs} ms are read before anything is given up`,
      async t => {
        const redis = await open(t, options)
        await until(
          () =>
            redis.client.set('{k}', 0).then(
              () => true,
              () => false
            ),
          'the server to be in use'
        )
        const answers = [
          ...Array.from({ length: 20 }, () => redis.client.incr('{k}')),
          redis.client
            .pipeline()
            .incr('{k}')
            .incr('{k}')
            .exec()
            .then(results => {
              for (const [error] of results!) if (error !== null) throw error
            }),
          redis.client.multi().incr('{k}').exec()
        ]
        await new Promise(setImmediate)
        blockLoopUntil(() => redisCli(server.port, 'get', '{k}') === '23')
        blockLoopFor(stallMs)
        const outcomes = await Promise.allSettled(answers)
        t.same(
          outcomes.filter(outcome => outcome.status === 'rejected').map(({ reason }) => String(reason)),
          []
        )
        t.match(redis.health(), { status: 'healthy', details: { reconnects: 0 } }, 'the connection is kept')
      }
    )
  }
}

t.test('a frozen Redis is not waited for longer because the event loop was busy', async t => {
  const server = await startRedis(await freePort())
  t.teardown(() => server.stop())
  const { client } = await open(t, { port: server.port })
  server.child.kill('SIGSTOP')
  let turns = 0
  const count = (): void => {
    turns++
    counting = setImmediate(count)
  }
  let counting = setImmediate(count)
  t.teardown(() => {
    clearImmediate(counting)
  })
  const answer = client.get('k').then(
    () => 'answered',
    (error: Error) => error.message
  )
  blockLoopFor(200)
  const before = turns
  t.equal(await answer, 'Command timed out')
  t.ok(turns - before <= 2, `given up ${turns - before} turns after the stall`)
})

t.test('a connection is given up that stays silent, whether or not the event loop was busy', async t => {
  const server = await startRedis(await freePort())
  t.teardown(() => server.stop())
  const redis = await open(t, { port: server.port })
  server.child.kill('SIGSTOP')
  const answer = redis.client.get('k').catch(() => {})
  blockLoopFor(1_200)
  await answer
  await until(() => redis.health().status === 'unhealthy', 'the silent connection to be given up')
  t.match(redis.health().details.lastError, /Socket timeout/)
  server.child.kill('SIGCONT')
  await redis.ready(10_000)
})

t.test(
  'withinDeadline: the work when it settles in time, an error that says what was waited for when it does not',
  async t => {
    t.equal(await withinDeadline(10_000, Promise.resolve(1), 'it'), 1)
    await t.rejects(withinDeadline(10_000, Promise.reject(new Error('no')), 'it'), { message: 'no' })
    await t.rejects(withinDeadline(1, new Promise(() => {}), 'the store'), {
      message: 'the store did not answer within 1 ms'
    })
    let fail: (error: Error) => void = () => {}
    const late = withinDeadline(
      1,
      new Promise((resolve, reject) => {
        fail = reject
      }),
      'it'
    )
    await t.rejects(late, { message: /did not answer/ })
    fail(new Error('too late to be an unhandled rejection'))
    await new Promise(setImmediate)
  }
)
