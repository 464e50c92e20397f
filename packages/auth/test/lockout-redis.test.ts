import t, { type Test } from 'tap'
import { AccountLocked, createLockout, type Lockout } from '@marty/auth'
import { openRedis, type RedisConnection } from '@marty/redis'
import { freePort, type RedisServer, startRedis, until } from '@marty/testing'
import { advanceRedis } from './lockout-clock.js'

const HOME = '192.0.2.1'

async function isRefused (lockout: Lockout, account: string): Promise<boolean> {
  try {
    await lockout.check(account, HOME)
    return false
  } catch (error) {
    if (error instanceof AccountLocked) return true
    throw error
  }
}

async function start (t: Test): Promise<RedisServer> {
  const server = await startRedis(await freePort())
  t.teardown(async () => { await server.stop() })
  return server
}

async function connect (t: Test, { port }: RedisServer, commandTimeoutMs = 2_000): Promise<RedisConnection> {
  const connection = openRedis({ port, commandTimeoutMs, reconnectMaxDelayMs: 50 })
  t.teardown(async () => { await connection.close() })
  await connection.ready(10_000)
  return connection
}

t.test('replicas count together', async t => {
  const server = await start(t)
  const told: string[] = []
  const replicas = await Promise.all([0, 1, 2].map(async () => {
    const { client } = await connect(t, server)
    return createLockout({ redis: client }, { onLocked: account => { told.push(account) } })
  }))
  const { client } = await connect(t, server)

  await t.test('five failures spread over three lock at each', async t => {
    for (let i = 0; i < 5; i++) await replicas[i % 3]!.fail('spread', HOME)
    for (const replica of replicas) t.ok(await isRefused(replica, 'spread'))
    await advanceRedis(client, 899_000)
    for (const replica of replicas) t.ok(await isRefused(replica, 'spread'))
    await advanceRedis(client, 1_000)
    for (const replica of replicas) t.notOk(await isRefused(replica, 'spread'))
    t.strictSame(told, ['spread'])
  })

  await t.test('a hundred failures at once lock once, whoever sees them', async t => {
    told.length = 0
    await Promise.all(Array.from({ length: 100 }, async (_, i) => { await replicas[i % 3]!.fail('flood', HOME) }))
    for (const replica of replicas) t.ok(await isRefused(replica, 'flood'))
    t.strictSame(told, ['flood'])
  })

  await t.test('success at one is success at all', async t => {
    for (const replica of replicas) await replica.fail('good', HOME)
    await replicas[0]!.succeed('good', HOME)
    for (const replica of replicas) t.notOk(await isRefused(replica, 'good'))
  })

  await t.test('keys say nothing of the account, are short, and end by themselves', async t => {
    await client.flushall()
    await replicas[0]!.fail(`secret name ${'x'.repeat(100_000)}`, HOME)
    for (let i = 0; i < 5; i++) {
      await createLockout({ redis: client, prefix: 'other' }, { windowSeconds: 10, lockSeconds: 60 }).fail('a', HOME)
    }
    const keys = (await client.keys('*')).sort()
    t.match(keys[0], /^marty:auth:lockout:[\w-]{43}$/)
    t.match(keys[1], /^other:lockout:[\w-]{43}$/)
    t.equal(keys.length, 2)
    const lives = await Promise.all(keys.map(async key => await client.pttl(key)))
    t.ok(lives[0]! > 800_000 && lives[0]! <= 900_000)
    t.ok(lives[1]! > 10_000 && lives[1]! <= 60_000, 'as long as the lock')
  })

  await t.test('a server that forgot the scripts is taught again', async t => {
    await client.script('FLUSH')
    for (let i = 0; i < 5; i++) await replicas[i % 3]!.fail('taught', HOME)
    t.ok(await isRefused(replicas[0]!, 'taught'))
  })
})

for (const [how, fault] of Object.entries({ killed: 'SIGKILL', frozen: 'SIGSTOP' } as const)) {
  t.test(`Redis ${how}: each process goes on by what it has seen, without an error or a hang`, async t => {
    const server = await start(t)
    const connection = await connect(t, server, 500)
    const problems: Error[] = []
    const told: string[] = []
    let time = 0
    const lockout = createLockout({ redis: connection.client }, {
      clock: () => time,
      onProblem: error => { problems.push(error) },
      onLocked: account => { told.push(account) }
    })
    for (let i = 0; i < 5; i++) await lockout.fail('before', HOME)
    for (let i = 0; i < 3; i++) await lockout.fail('nearly', HOME)
    t.strictSame([problems.length, told], [0, ['before']])

    server.child.kill(fault)
    t.ok(await isRefused(lockout, 'before'), 'a lock that stood still stands')
    await Promise.all([lockout.fail('nearly', HOME), lockout.fail('nearly', HOME)])
    t.ok(await isRefused(lockout, 'nearly'), 'failures before and after count together')
    t.notOk(await isRefused(lockout, 'stranger'))
    for (let i = 0; i < 5; i++) await lockout.fail('during', HOME)
    t.ok(await isRefused(lockout, 'during'), 'guessing is not unlimited')
    await lockout.succeed('during', HOME)
    t.notOk(await isRefused(lockout, 'during'))
    t.strictSame(told, ['before', 'nearly', 'during'])
    t.equal(problems.length, 1, 'told once')
    time += 10_000
    await Promise.all([isRefused(lockout, 'x'), isRefused(lockout, 'y'), lockout.succeed('z', HOME)])
    t.equal(problems.length, 2, 'and again after ten seconds')
    t.ok(problems.every(problem => problem instanceof Error))

    const back = how === 'killed' ? await startRedis(server.port) : server
    t.teardown(async () => { await back.stop() })
    if (how === 'frozen') server.child.kill('SIGCONT')
    const probe = await connect(t, back)
    let attempt = 0
    await until(async () => {
      await lockout.fail(`after ${attempt++}`, HOME)
      return (await probe.client.keys('*')).length > (how === 'frozen' ? 2 : 0)
    }, 'failures to be counted in Redis again')
    lockout.close()
    server.child.kill('SIGKILL')
    back.child.kill('SIGKILL')
    time += 60_000
    await until(() => connection.health().status === 'unhealthy', 'the second outage')
    t.notOk(await isRefused(lockout, 'during'))
    t.equal(problems.length, 2, 'closed: nothing is told any more')
  })
}
