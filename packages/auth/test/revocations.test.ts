import t, { type Test } from 'tap'
import { createRevocations, type ResolvedAuthStore, type Revocations, type RevocationsOptions } from '@marty/auth'
import { until } from '@marty/testing'
import { insist, snapshot, storeOf, testRedis } from './state-store.js'

const UNAVAILABLE = { code: 'MARTY_AUTH_STORE_UNAVAILABLE', statusCode: 503 }
const HOUR = 3_600_000
const second = (): number => Math.floor(Date.now() / 1000)
const of = (jti: string): { jti: string, sub: string, iat: number } => ({ jti, sub: 'nobody', iat: second() })

const redis = await testRedis(t)
const connection = await redis.connect()

async function follow (
  t: Test,
  store: ResolvedAuthStore,
  options: Partial<RevocationsOptions> = {}
): Promise<Revocations> {
  const revocations = createRevocations(store, { maxLifetimeSeconds: 3_600, ...options })
  t.teardown(() => { revocations.close() })
  await revocations.start()
  await until(() => revocations.health().status !== 'unhealthy', 'the first synchronisation')
  return revocations
}

const seen = async (revocations: Revocations, jti: string): Promise<void> => {
  await until(() => revocations.isRevoked(of(jti)), `${jti} to be known`)
}

for (const [kind, storeFor] of [['memory', () => 'memory' as const], ['redis', () => storeOf(connection)]] as const) {
  t.test(`${kind}: what is not a time in milliseconds revokes nothing, and says so`, async t => {
    const revocations = await follow(t, storeFor())
    for (const bad of [NaN, -1, 0, second() + 60, '5' as unknown as number, -Infinity]) {
      await t.rejects(revocations.revokeToken('a', bad), { code: 'MARTY_AUTH_REQUEST_INVALID' }, String(bad))
      await t.rejects(revocations.revokeFamily('a', bad), { code: 'MARTY_AUTH_REQUEST_INVALID' }, String(bad))
    }
    await revocations.revokeToken('past', Date.now() - 1)
    t.equal(revocations.health().details.entries, 0, 'what has expired need not be remembered')
  })

  t.test(`${kind}: a token, a family and a subject are revoked, and nothing else`, async t => {
    const revocations = await follow(t, storeFor())
    await insist(async () => { await revocations.revokeToken('token', Date.now() + HOUR) })
    await insist(async () => { await revocations.revokeFamily('family') })
    t.equal(revocations.earliestIssue('alice'), 0)
    const before = second()
    await insist(async () => { await revocations.revokeSubject('alice') })
    const next = revocations.earliestIssue('alice')
    t.ok(next > before && next <= second() + 1)
    const claims = { jti: 'other', sub: 'bob', iat: before, sid: 'other' }
    t.equal(revocations.isRevoked(claims), false)
    t.equal(revocations.isRevoked({ ...claims, jti: 'token' }), true)
    t.equal(revocations.isRevoked({ ...claims, sid: 'family' }), true)
    t.equal(revocations.isRevoked({ ...claims, sub: 'alice' }), true)
    t.equal(revocations.isRevoked({ ...claims, sub: 'alice', iat: next - 1 }), true)
    t.equal(revocations.isRevoked({ ...claims, sub: 'alice', iat: next }), false, 'who signs in again is let in')
    t.equal(
      revocations.isRevoked({ ...claims, jti: 'family', sid: 'token', sub: 'token' }),
      false,
      'kinds are told apart'
    )
    t.equal(
      revocations.isRevoked({ sub: 'bob', iat: before, sid: 5 as unknown as string }),
      false,
      "a claim of a wrong type is nobody's name"
    )
    t.equal(revocations.earliestIssue('bob'), 0)
    t.match(revocations.health(), { status: 'healthy', details: { entries: 3, ageSeconds: 0 } })
  })

  t.test(`${kind}: any text is a name`, async t => {
    const revocations = await follow(t, storeFor())
    const names = ['', '\0', '\u2028', '💥', '__proto__', 'seq', 'generation', 'x'.repeat(100_000), '\ud800']
    for (const name of names) {
      await insist(async () => { await revocations.revokeToken(name, Date.now() + HOUR) })
      t.equal(revocations.isRevoked(of(name)), true)
    }
    t.equal(revocations.isRevoked(of('x'.repeat(99_999))), false)
  })

  t.test(`${kind}: bounded; what has expired makes room, nothing else does`, async t => {
    let now = Date.now()
    const revocations = await follow(t, storeFor(), { maxEntries: 2, clock: () => now })
    await insist(async () => { await revocations.revokeToken('a', now + 60_000) })
    await insist(async () => { await revocations.revokeToken('b', now + HOUR) })
    const full = { code: 'MARTY_AUTH_CAPACITY_EXCEEDED', statusCode: 503 }
    await t.rejects(revocations.revokeToken('c', now + HOUR), full)
    await t.rejects(revocations.revokeSubject('c'), full)
    t.equal(revocations.health().status, 'degraded')
    await insist(async () => { await revocations.revokeToken('a', now + 30_000) })
    now += 59_999
    await t.rejects(revocations.revokeToken('c', now + HOUR), full, 'of two ends the later counts')
    now += 1
    await insist(async () => { await revocations.revokeToken('c', now + HOUR) })
    await t.rejects(revocations.revokeToken('d', now + HOUR), full)
    now -= 60_000
    t.strictSame(['a', 'b', 'c', 'd'].map(jti => revocations.isRevoked(of(jti))), [false, true, true, false])
  })

  t.test(`${kind}: nothing is remembered longer than what it refuses can live`, async t => {
    let now = Date.now()
    const revocations = await follow(t, storeFor(), {
      maxLifetimeSeconds: 100,
      subjectLifetimeSeconds: 1_000,
      clock: () => now
    })
    const add = async (): Promise<void> => {
      await insist(async () => {
        await revocations.revokeToken(String(now), now + 1_000 * HOUR)
      })
    }
    await add()
    await insist(async () => { await revocations.revokeFamily('family') })
    await insist(async () => { await revocations.revokeSubject('alice') })
    now += 130_000
    await add()
    t.equal(revocations.health().details.entries, 2, 'the subject and the new one')
    now += 900_000
    await add()
    t.equal(revocations.health().details.entries, 1)
  })
}

t.test('a replica that was never in touch with the store knows nothing, and lets nobody in', async t => {
  const away = storeOf(await redis.connect())
  const revocations = createRevocations(away, { maxLifetimeSeconds: 60 })
  t.throws(() => revocations.isRevoked(of('a')), UNAVAILABLE)
  t.match(revocations.health(), { status: 'unhealthy', details: { ageSeconds: null } })
  revocations.close()
})

t.test('what one replica revokes the others refuse, also those that start later', async t => {
  const prefix = storeOf(connection).prefix
  const [one, two] = await Promise.all(
    [connection, await redis.connect()].map(async each => await follow(t, storeOf(each, prefix)))
  )
  const now = Date.now()
  await insist(async () => { await one!.revokeToken('token', now + HOUR) })
  await insist(async () => { await two!.revokeFamily('family', now + HOUR) })
  await insist(async () => { await one!.revokeSubject('alice') })
  await seen(two!, 'token')
  await until(() => two!.earliestIssue('alice') === one!.earliestIssue('alice'), 'the subject')
  await until(() => one!.isRevoked({ ...of('x'), sid: 'family' }), 'the family')
  const late = await follow(t, storeOf(connection, prefix))
  t.equal(late.health().details.entries, 3)
  t.equal(late.isRevoked({ ...of('x'), sub: 'alice', iat: late.earliestIssue('alice') - 1 }), true)

  // The later of two ends, and of two epochs, counts for everybody, in whatever order they were told.
  await insist(async () => { await two!.revokeToken('token', now + 2 * HOUR) })
  await insist(async () => { await two!.revokeToken('token', now + 60_000) })
  const keys = await insist(async () => await connection.client.keys(`{${prefix}}:*`))
  t.equal(keys.length, 3)
  for (const key of keys) t.ok(await connection.client.pttl(key) > HOUR, `${key} goes with its last entry`)
  t.notMatch(JSON.stringify(await connection.client.hgetall(`{${prefix}}:revoked:head`)), /alice/)
})

t.test('an entry of which each replica knows a later part is known whole to all', async t => {
  const prefix = storeOf(connection).prefix
  let now = Date.now()
  const long = await follow(t, storeOf(connection, prefix), { subjectLifetimeSeconds: 10_000, clock: () => now })
  await insist(async () => { await long.revokeSubject('alice') })
  now += 5_000
  const away = await redis.connect()
  const short = createRevocations(storeOf(away, prefix), { maxLifetimeSeconds: 10, clock: () => now })
  t.teardown(() => { short.close() })
  await insist(async () => { await short.revokeSubject('alice') })
  await short.start()
  await until(
    () =>
      long.earliestIssue('alice') === short.earliestIssue('alice') &&
      short.earliestIssue('alice') === Math.floor(now / 1000) + 1,
    'the later epoch'
  )
  now += 60_000
  const late = await follow(t, storeOf(connection, prefix), { clock: () => now })
  t.ok(late.earliestIssue('alice') > 0, 'and the later end')
  await insist(async () => { await long.revokeToken('x', now + 1_000) })
  t.ok(long.earliestIssue('alice') > 0)
})

t.test('more than a page, by many at once, and expired entries leave the store', async t => {
  const prefix = storeOf(connection).prefix
  const one = await follow(t, storeOf(connection, prefix))
  const two = await follow(t, storeOf(await redis.connect(), prefix))
  const head = `{${prefix}}:revoked`
  const soon = Date.now() + 1_500
  await Promise.all(
    Array.from({ length: 120 }, async (_, i) => {
      await one.revokeToken(`soon ${i}`, soon).catch(() => {})
    })
  )
  for (let group = 0; group < 13; group++) {
    await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        await (i % 2 === 0 ? one : two).revokeToken(`${group}:${i}`, Date.now() + HOUR).catch(() => {})
      })
    )
  }
  await until(
    () =>
      [one, two].every(each => each.isRevoked(of('0:1')) && each.isRevoked(of('12:98')) && each.isRevoked(of('12:99'))),
    'all of them'
  )
  const late = await follow(t, storeOf(connection, prefix))
  await until(
    () =>
      Array.from({ length: 1_300 }, (_, i) => `${Math.floor(i / 100)}:${i % 100}`).every(jti =>
        late.isRevoked(of(jti))
      ),
    'every page'
  )
  await until(() => Date.now() > soon + 1_000, 'expiry')
  for (const jti of ['p', 'q', 'r']) await insist(async () => { await one.revokeToken(jti, Date.now() + HOUR) })
  t.equal(await connection.client.zcount(`${head}:expiry`, '-inf', soon + 1), 0)
  t.equal(await connection.client.zcard(`${head}:log`), await connection.client.zcard(`${head}:expiry`))
})

const losses: Array<[string, (prefix: string) => Promise<unknown>]> = [
  ['FLUSHALL', async () => await connection.client.flushall()],
  ['kill -9 and an empty restart', async () => { await redis.restart() }],
  ['the head alone', async prefix => await connection.client.del(`{${prefix}}:revoked:head`)],
  [
    'the log and its head',
    async prefix => await connection.client.del(`{${prefix}}:revoked:head`, `{${prefix}}:revoked:log`)
  ]
]
for (const [name, lose] of losses) {
  t.test(`${name}: the store gets back what it lost from a replica that lives`, async t => {
    const prefix = storeOf(connection).prefix
    const one = await follow(t, storeOf(connection, prefix))
    const names = Array.from({ length: 1_200 }, (_, i) => `token ${i}`)
    for (let i = 0; i < names.length; i += 100) {
      await Promise.all(
        names.slice(i, i + 100).map(async jti => {
          await one.revokeToken(jti, Date.now() + HOUR).catch(() => {})
        })
      )
    }
    await insist(async () => { await one.revokeSubject('alice') })
    const size = async (key: string): Promise<number> =>
      await connection.client.zcard(`{${prefix}}:revoked:${key}`).catch(() => 0)
    await until(async () => await size('log') === 1_201, 'the log to be whole')
    await insist(async () => { await one.revokeToken('last', Date.now() + HOUR) })

    await lose(prefix)
    t.equal(one.isRevoked(of('token 0')), true)
    await until(async () => await size('log') === 1_202 && await size('expiry') === 1_202, 'the log to be whole again')
    const late = await follow(t, storeOf(await redis.connect(), prefix))
    await until(() => late.health().details.entries === 1_202, 'another replica to know all')
    t.ok(names.every(jti => late.isRevoked(of(jti))))
    await until(() => late.earliestIssue('alice') === one.earliestIssue('alice'), 'the epoch, too')
    await insist(async () => { await late.revokeToken('next', Date.now() + HOUR) })
    await seen(one, 'next')
  })
}

t.test('a failover that lost the last writes, and got as many new ones before anybody looked, is noticed', async t => {
  const { prefix } = storeOf(connection)
  const one = await follow(t, storeOf(connection, prefix))
  const add = async (to: Revocations, name: string): Promise<void> => {
    for (let i = 0; i < 20; i++) await insist(async () => { await to.revokeToken(`${name} ${i}`, Date.now() + HOUR) })
  }
  await add(one, 'kept')
  const older = await snapshot(t, connection)
  await add(one, 'lost')
  await until(() => one.isRevoked(of('lost 19')), 'the last write')

  const other = await testRedis(t, ['--dir', older])
  const elsewhere = await other.connect()
  const two = await follow(t, storeOf(elsewhere, prefix))
  await add(two, 'new')
  await add(two, 'newer')
  await redis.restart(['--dir', await snapshot(t, elsewhere)])

  await until(() => one.isRevoked(of('newer 19')), 'what is new')
  await until(
    async () => (await connection.client.zcard(`{${prefix}}:revoked:log`).catch(() => 0)) === 80,
    'what was lost'
  )
  t.ok(one.isRevoked(of('lost 0')))
})

t.test('many replicas give back what was lost, each entry once', async t => {
  const prefix = storeOf(connection).prefix
  const replicas = await Promise.all(
    Array.from({ length: 4 }, async () => await follow(t, storeOf(await redis.connect(), prefix)))
  )
  const end = Date.now() + HOUR
  for (let i = 0; i < 40; i++) await insist(async () => { await replicas[i % 4]!.revokeToken(`token ${i}`, end) })
  await until(() => replicas.every(each => each.health().details.entries === 40), 'all to know all')
  await insist(async () => await connection.client.flushall())
  await until(
    async () => (await connection.client.zcard(`{${prefix}}:revoked:log`).catch(() => 0)) === 40,
    'the log to be whole again'
  )
  t.equal(await connection.client.hget(`{${prefix}}:revoked:head`, 'seq'), '40')
})

t.test('frozen: within its deadline a revocation is refused and still in force; it is known to all afterwards', async t => {
  const prefix = storeOf(connection).prefix
  let now = Date.now()
  const problems: unknown[] = []
  const one = await follow(t, storeOf(connection, prefix), {
    clock: () => now,
    onProblem: error => {
      problems.push(error)
    }
  })
  const two = await follow(t, storeOf(await redis.connect(), prefix))
  problems.length = 0
  redis.server.child.kill('SIGSTOP')
  try {
    await t.rejects(one.revokeToken('a', Date.now() + HOUR), UNAVAILABLE)
    t.equal(one.isRevoked(of('a')), true)
    t.equal(one.isRevoked(of('b')), false, 'what is known is good for a minute')
    t.equal(two.isRevoked(of('a')), false)
    await until(() => one.health().status === 'degraded', 'the outage to be noticed')
    await until(() => problems.length > 0, 'the outage to be told')
    now += 59_000
    t.equal(one.isRevoked(of('b')), false)
    now += 2_000
    t.throws(() => one.isRevoked(of('b')), UNAVAILABLE, 'a minute later nobody is let in')
    t.match(one.health(), { status: 'unhealthy', details: { ageSeconds: Number } })
    now -= 130_000
    t.throws(() => one.isRevoked(of('b')), UNAVAILABLE, 'nor by a clock that was set back')
    now += 69_000
    await t.rejects(one.revokeSubject('alice'), UNAVAILABLE)
    t.equal(problems.length, 1, 'told once')
  } finally {
    redis.server.child.kill('SIGCONT')
  }
  await until(() => one.health().status === 'healthy', 'recovery')
  await seen(two, 'a')
  await until(() => two.earliestIssue('alice') > 0, 'the subject')
})

t.test('Redis out of memory: its revocations are still read, and pending ones are written when there is room', async t => {
  const { prefix } = storeOf(connection)
  const problems: unknown[] = []
  const one = await follow(t, storeOf(connection, prefix), { onProblem: error => { problems.push(error) } })
  const two = await follow(t, storeOf(connection, prefix))
  await insist(async () => { await one.revokeToken('before', Date.now() + HOUR) })
  await insist(async () => await connection.client.config('SET', 'maxmemory', '1'))
  await t.rejects(one.revokeToken('after', Date.now() + HOUR), UNAVAILABLE)
  await until(() => problems.some(error => /OOM/.test(String((error as Error).cause))), 'the problem to be told')
  t.equal(one.health().status, 'degraded')
  await seen(two, 'before')
  t.equal(two.isRevoked(of('after')), false)
  await insist(async () => await connection.client.config('SET', 'maxmemory', '0'))
  await seen(two, 'after')
})

t.test('Redis is away at the start: start settles, and everything is known once it is there', async t => {
  const away = await redis.connect()
  await redis.server.stop()
  const problems: unknown[] = []
  const revocations = createRevocations(storeOf(away), {
    maxLifetimeSeconds: 60,
    onProblem: error => {
      problems.push(error)
    }
  })
  await revocations.start()
  t.throws(() => revocations.isRevoked(of('a')), UNAVAILABLE)
  await t.rejects(revocations.revokeToken('a', Date.now() + 30_000), {
    ...UNAVAILABLE,
    headers: { 'retry-after': '1' }
  })
  t.equal(problems.length, 1)
  const closed = createRevocations(storeOf(away), { maxLifetimeSeconds: 60 })
  const starting = closed.start()
  closed.close()
  await starting
  await redis.restart()
  await until(() => revocations.health().status === 'healthy', 'the first synchronisation')
  t.equal(revocations.isRevoked(of('a')), true)
  t.equal(closed.health().status, 'unhealthy', 'what was closed does not go on')
  revocations.close()
  await until(async () => await connection.client.ping().catch(() => '') === 'PONG', 'the connection')
})

t.test('a user who may not ask for the run id is served by the generation alone', async t => {
  await insist(
    async () => await connection.client.call('ACL', 'SETUSER', 'plain', 'on', '>secret', '~*', '+@all', '-info')
  )
  const store = storeOf(await redis.connect({ username: 'plain', password: 'secret' }))
  const one = await follow(t, store)
  const two = await follow(t, store)
  await insist(async () => { await one.revokeToken('a', Date.now() + HOUR) })
  await seen(two, 'a')
  await insist(async () => await connection.client.flushall())
  await until(
    async () => (await connection.client.zcard(`{${store.prefix}}:revoked:log`).catch(() => 0)) === 1,
    'the log to be whole again'
  )
})
