import t from 'tap'
import { inspect } from 'node:util'
import { openRedis, redisScript, type RedisOptions } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'
import { ask, clusterArgs } from '@marty/testing/redis-topology'

const PASSWORD = 'correct-horse-battery'
const WRONG = 'hunter2-hunter2'

t.test('access control', async t => {
  const redis = await startRedis(await freePort())
  const node = await startRedis(await freePort(), [...(await clusterArgs()), '--cluster-announce-ip', '127.0.0.1'])
  t.teardown(async () => {
    await redis.stop()
    await node.stop()
  })
  await ask(node.port, client => client.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383'))
  for (const { port } of [redis, node]) {
    await ask(port, async client => {
      await client.call(
        'ACL',
        'SETUSER',
        'limits',
        'on',
        `>${PASSWORD}`,
        '~limits:*',
        '-@all',
        '+get',
        '+set',
        '+eval',
        '+evalsha',
        '+info',
        '+cluster|slots'
      )
      await client.call(
        'ACL',
        'SETUSER',
        'narrow',
        'on',
        `>${PASSWORD}`,
        '~limits:*',
        '-@all',
        '+get',
        '+cluster|slots'
      )
    })
  }
  // What is tested here is not how fast a busy machine answers.
  const patient = { commandTimeoutMs: 5_000 }
  const single = { ...patient, host: '127.0.0.1', port: redis.port }
  const clustered = { ...patient, cluster: [{ host: '127.0.0.1', port: node.port }] }

  for (const [name, where] of [
    ['single', single],
    ['cluster', clustered]
  ] as const) {
    t.test(`${name}: a wrong password and an unknown user are told, the password to nobody`, async t => {
      for (const username of ['limits', 'nobody']) {
        const { seen, connection } = watched({ ...where, username, password: WRONG })
        t.teardown(() => connection.close())
        const failure: unknown = await connection.ready(500).then(
          () => null,
          error => error
        )
        t.match(failure, { code: 'MARTY_REDIS_UNAVAILABLE', message: /WRONGPASS/ })
        t.match(connection.health(), { status: 'unhealthy', details: { lastError: /WRONGPASS/ } })
        await until(() => seen.length > 0, 'an error event')
        const refused: unknown = await connection.client.get('limits:a').catch(error => error)
        assertSilent(t, WRONG, [failure, refused, seen, connection, connection.client, connection.health()])
      }
    })

    t.test(`${name}: what the user may not do is told, what it may do works`, async t => {
      const { seen, connection } = watched({ ...where, username: 'limits', password: PASSWORD })
      t.teardown(() => connection.close())
      await connection.ready(5_000)
      await until(
        () =>
          connection.client.set('limits:a', '1').then(
            () => true,
            () => false
          ),
        'a command'
      )
      t.equal(await redisScript("return redis.call('GET', KEYS[1])")(connection.client, ['limits:a'], []), '1')
      await t.rejects(connection.client.set('other', '1'), { message: /^NOPERM .*key/ })
      await t.rejects(connection.client.del('limits:a'), { message: /^NOPERM .*'del' command/ })
      await t.rejects(redisScript("return redis.call('SET', 'other', '1')")(connection.client, ['limits:a'], []), {
        message: /access.*key/
      })
      t.match(connection.health(), { status: 'healthy' })
      assertSilent(t, PASSWORD, [seen, connection, connection.client, connection.health()])
    })

    t.test(`${name}: a user without INFO and PING is served as well`, async t => {
      const { connection } = watched({ ...where, username: 'narrow', password: PASSWORD })
      t.teardown(() => connection.close())
      await connection.ready(5_000)
      t.equal(await connection.client.get('limits:none'), null)
    })
  }
})

function watched (options: RedisOptions): { seen: unknown[]; connection: ReturnType<typeof openRedis> } {
  const connection = openRedis(options)
  const seen: unknown[] = []
  for (const event of ['error', 'node error']) {
    connection.client.on(event, error => {
      seen.push(error)
    })
  }
  return { seen, connection }
}

function assertSilent (
  t: { notMatch(value: string, secret: string): boolean },
  secret: string,
  things: readonly unknown[]
): void {
  for (const thing of things) {
    t.notMatch(inspect(thing, { depth: 12, showHidden: true, getters: true }), secret)
    t.notMatch(
      JSON.stringify(
        thing instanceof Error ? { ...thing, cause: thing.cause, message: thing.message, stack: thing.stack } : thing
      ) ?? '',
      secret
    )
  }
}
