import t, { type Test } from 'tap'
import { createHash, randomBytes } from 'node:crypto'
import {
  createMemoryApiKeyStore,
  createRefreshTokens,
  createRevocations,
  type AuthOptions,
  type RefreshGrant,
  type RefreshTokens,
  type RefreshTokensOptions,
  type ResolvedAuthStore
} from '@marty/auth'
import { ANONYMOUS, type SecurityEvent } from '@marty/core'
import { openRedis, type RedisClient } from '@marty/redis'
import { startCluster } from '@marty/testing/redis-topology'
import { bearer, PEPPER, secretFor } from '@marty/testing/tokens'
import { build } from './service.js'
import { storeOf, testRedis } from './state-store.js'

t.setTimeout(300_000)

const REFUSED = { code: 'MARTY_CORE_CREDENTIAL_INVALID', statusCode: 401 }
const secret = Buffer.from(secretFor('refresh tokens'))
const grantOf = (subject: string, kind: 'user' | 'service' = 'user'): RefreshGrant => ({
  subject,
  kind,
  roles: ['viewer'],
  scopes: [],
  source: ANONYMOUS
})

const redis = await testRedis(t)
const connection = await redis.connect({ commandTimeoutMs: 20_000 })

interface Bench {
  readonly refresh: RefreshTokens
  readonly displaced: string[]
}

async function bench (t: Test, store: ResolvedAuthStore, options: Partial<RefreshTokensOptions> = {}): Promise<Bench> {
  const revocations = createRevocations(store, { maxLifetimeSeconds: 3_600 })
  t.teardown(() => { revocations.close() })
  await revocations.start()
  const displaced: string[] = []
  const refresh = createRefreshTokens(store, {
    secret,
    revocations,
    idleSeconds: 600,
    absoluteSeconds: 3_600,
    graceSeconds: 10,
    onReuse: () => {},
    onDisplaced: sid => {
      displaced.push(sid)
    },
    ...options
  })
  return { refresh, displaced }
}

/** The same in memory, in Redis and in a cluster of six. */
function everywhere (name: string, work: (t: Test, store: () => ResolvedAuthStore) => Promise<void>): void {
  t.test(`memory: ${name}`, async t => { await work(t, () => 'memory') })
  t.test(`redis: ${name}`, async t => { await work(t, () => storeOf(connection)) })
  t.test(`cluster: ${name}`, async t => { await work(t, () => storeOf(cluster)) })
}

const { nodes } = await startCluster(t)
const cluster = openRedis({ cluster: nodes, commandTimeoutMs: 20_000 })
t.teardown(async () => { await cluster.close() })
await cluster.ready(20_000)

everywhere('beyond the limit of a subject the family used longest ago gives way, and no other', async (t, store) => {
  const { refresh, displaced } = await bench(t, store(), { maxPerSubject: 3 })
  const bob = await refresh.issue(grantOf('bob'))
  const service = await refresh.issue(grantOf('alice', 'service'))
  const [first, second, third] = [
    await refresh.issue(grantOf('alice')),
    await refresh.issue(grantOf('alice')),
    await refresh.issue(grantOf('alice'))
  ]
  const used = await refresh.rotate(first.token)

  const fourth = await refresh.issue(grantOf('alice'))

  t.strictSame(displaced, [second.sid], 'the first was used after it')
  await t.rejects(refresh.rotate(second.token), REFUSED)
  t.equal(await refresh.revoke(second.token), null)
  t.equal(await refresh.revokeFamily(second.sid), false)
  for (const { token } of [used, third, fourth, bob, service]) t.ok(await refresh.rotate(token))
  t.equal(displaced.length, 1)
})

everywhere('families that were ended leave room', async (t, store) => {
  const { refresh, displaced } = await bench(t, store(), { maxPerSubject: 2 })
  const first = await refresh.issue(grantOf('alice'))
  const second = await refresh.issue(grantOf('alice'))
  await refresh.revoke(second.token)

  const third = await refresh.issue(grantOf('alice'))

  t.strictSame(displaced, [])
  for (const { token } of [first, third]) t.ok(await refresh.rotate(token))
})

everywhere('of five hundred sign-ins of one subject at once the limit remains', async (t, store) => {
  const { refresh, displaced } = await bench(t, store())
  const other = await refresh.issue(grantOf('bob'))
  const issued = await Promise.all(Array.from({ length: 500 }, async () => await refresh.issue(grantOf('alice'))))
  const alive = await Promise.all(issued.map(async ({ token }) => await refresh.inspect(token)))

  t.equal(alive.filter(family => family !== null).length, 50)
  t.equal(new Set(displaced).size, 450)
  t.ok(await refresh.inspect(other.token))
})

everywhere('a limit that was lowered is kept from the next sign-in on', async (t, store) => {
  const place = store()
  const before = await bench(t, place, { maxPerSubject: 1_000 })
  const tokens = []
  for (let i = 0; i < 200; i++) tokens.push((await before.refresh.issue(grantOf('alice'))).token)
  if (place === 'memory') return
  const after = await bench(t, place, { maxPerSubject: 2 })

  const last = await after.refresh.issue(grantOf('alice'))

  t.equal(after.displaced.length, 199)
  for (const token of tokens.slice(0, 199)) {
    if ((await after.refresh.inspect(token)) !== null) t.fail('a family beyond the limit')
  }
  for (const token of [tokens[199]!, last.token]) t.ok(await after.refresh.rotate(token))
})

everywhere('subjects of any form are told apart, and none takes the place of another', async (t, store) => {
  const subjects = [
    'a',
    'a\0',
    'a:of:b',
    '{a}',
    '}{',
    'a}:refresh:of:{b',
    '*',
    '',
    ' ',
    '\n',
    'é',
    'e\u0301',
    '__proto__',
    'constructor',
    'x'.repeat(10_000),
    'x'.repeat(10_001),
    '\u{1F3A5}'
  ]
  const { refresh, displaced } = await bench(t, store(), { maxPerSubject: 1 })
  const tokens = []
  for (const subject of subjects) tokens.push((await refresh.issue(grantOf(subject))).token)

  t.strictSame(displaced, [])
  for (const [i, token] of tokens.entries()) t.equal((await refresh.rotate(token)).grant.subject, subjects[i])
})

t.test('memory: a subject cannot use up the places of others; when all are taken, its own family is displaced', async t => {
  const { refresh, displaced } = await bench(t, 'memory', { maxFamilies: 10, maxPerSubject: 4 })
  const bob = await refresh.issue(grantOf('bob'))
  for (let i = 0; i < 1_000; i++) await refresh.issue(grantOf('mallory'))
  t.equal(displaced.length, 996)
  for (const name of ['carol', 'dave', 'erin', 'frank', 'grace']) await refresh.issue(grantOf(name))

  await t.rejects(refresh.issue(grantOf('heidi')), { code: 'MARTY_AUTH_CAPACITY_EXCEEDED' }, 'all ten are in use')
  const again = await refresh.issue(grantOf('bob'))
  await refresh.issue(grantOf('mallory'))

  await t.rejects(refresh.rotate(bob.token), REFUSED, 'one for another')
  t.ok(await refresh.rotate(again.token))
  t.equal(displaced.length, 998)
})

t.test('memory: families that are over are forgotten, with their owner', async t => {
  let now = Date.now()
  const { refresh, displaced } = await bench(t, 'memory', { maxFamilies: 300, maxPerSubject: 3, clock: () => now })
  for (let i = 0; i < 100; i++) for (let j = 0; j < 3; j++) await refresh.issue(grantOf(`user ${i}`))
  now += 600_000
  for (let i = 0; i < 300; i++) await refresh.issue(grantOf(`other ${i}`))
  await t.rejects(refresh.issue(grantOf('late')), { code: 'MARTY_AUTH_CAPACITY_EXCEEDED' })
  now -= 3_600_000
  const back = await refresh.issue(grantOf('other 0'))
  t.equal(displaced.length, 1, 'a clock that is set back brings nothing back')
  t.ok(await refresh.rotate(back.token))
})

t.test('redis: the order of use does not depend on the clock', async t => {
  const store = storeOf(connection) as Exclude<ResolvedAuthStore, 'memory'>
  const { refresh, displaced } = await bench(t, store, { maxPerSubject: 2 })
  const first = await refresh.issue(grantOf('alice'))
  const second = await refresh.issue(grantOf('alice'))
  // As if both had been used before the clock was set back by a day.
  const [index] = await connection.client.keys(`{${store.prefix}}:refresh:of:*`)
  for (const sid of [first.sid, second.sid]) await connection.client.zincrby(index!, 86_400_000, sid)
  const third = await refresh.issue(grantOf('alice'))
  await refresh.issue(grantOf('alice'))

  t.strictSame(displaced, [first.sid, second.sid])
  t.ok(await refresh.rotate(third.token))
})

t.test('redis: every key ends by itself, and what ended by itself leaves room', async t => {
  const store = storeOf(connection) as Exclude<ResolvedAuthStore, 'memory'>
  const { refresh, displaced } = await bench(t, store, { maxPerSubject: 3 })
  const families = []
  for (let i = 0; i < 3; i++) families.push(await refresh.issue(grantOf('alice')))
  for (const key of await connection.client.keys(`*${store.prefix}*`)) t.ok(await connection.client.pttl(key) > 0, key)
  const [index] = await connection.client.keys(`{${store.prefix}}:refresh:of:*`)
  t.ok(await connection.client.pttl(index!) > 3_500_000, 'the index outlives its families')
  t.notMatch(index, /alice/)

  await connection.client.del(`{${store.prefix}}:refresh:${families[2]!.sid}`)
  await refresh.issue(grantOf('alice'))
  t.strictSame(displaced, [], 'a family that is gone counts no more')
  for (const { token } of families.slice(0, 2)) t.ok(await refresh.rotate(token))
  t.equal(await connection.client.zcard(index!), 3)
})

/** A family as versions before kept it: under a key without hash tag, and in no index. */
async function oldFamily (
  client: RedisClient,
  prefix: string,
  subject: string
): Promise<{ readonly token: string; readonly sid: string }> {
  const digest = (text: string): string => createHash('sha256').update(text).digest('base64url')
  const [family, ours] = [randomBytes(16).toString('base64url'), randomBytes(32).toString('base64url')]
  const sid = digest(family).slice(0, 22)
  const key = `${prefix}:refresh:${sid}`
  await client.hset(key, {
    current: digest(ours),
    data: JSON.stringify({ signedInAt: Math.floor(Date.now() / 1000), grant: grantOf(subject) }),
    ends: Date.now() + 600_000
  })
  await client.pexpire(key, 300_000)
  return { token: `ref_${family}${ours}`, sid }
}

for (const [name, client] of [['redis', connection.client], ['cluster', cluster.client]] as const) {
  t.test(`${name}: families that a version before has begun go on until they end`, async t => {
    const store = { ...storeOf(connection), redis: client } as Exclude<ResolvedAuthStore, 'memory'>
    const { refresh, displaced } = await bench(t, store, { maxPerSubject: 1 })
    const [one, two] = [await oldFamily(client, store.prefix, 'alice'), await oldFamily(client, store.prefix, 'alice')]

    t.match(await refresh.inspect(one.token), { sid: one.sid, grant: { subject: 'alice' } })
    const next = await refresh.rotate(one.token)
    t.equal((await refresh.rotate(one.token)).token, next.token, 'within its grace')
    await refresh.issue(grantOf('alice'))
    const last = await refresh.rotate(next.token)
    await t.rejects(refresh.rotate(one.token), REFUSED, 'used up')
    await t.rejects(refresh.rotate(last.token), REFUSED, 'and given away')
    t.match(await refresh.revoke(two.token), { sid: two.sid })
    await t.rejects(refresh.rotate(two.token), REFUSED)
    t.strictSame(displaced, [])
  })
}

const OPTIONS: Partial<AuthOptions> = {
  routes: true,
  apiKeys: { store: createMemoryApiKeyStore(), prefix: 'cam', environment: 'test', pepper: PEPPER, hash: 'hmac-sha256' }
}

for (const kind of ['memory', 'redis'] as const) {
  const store = (): Partial<AuthOptions> => kind === 'memory' ? {} : { store: storeOf(connection) }

  t.test(`${kind}: client credentials give no refresh token, however often they are exchanged`, async t => {
    const app = await build(t, { ...OPTIONS, ...store(), refresh: { secret } })
    await app.ready()
    const { key } = await app.auth.apiKeys!.create({ name: 'least', roles: ['viewer'], expiresInSeconds: 3_600 })
    const exchange = async () => await app.inject({ method: 'POST', url: '/auth/token', headers: { 'x-api-key': key } })
    for (let i = 0; i < 20; i++) {
      const answers = await Promise.all(Array.from({ length: 50 }, exchange))
      for (const answer of answers) {
        if (answer.statusCode !== 200 || 'refresh_token' in answer.json()) t.fail(answer.body)
      }
    }
    const { access_token: token } = (await exchange()).json()
    t.equal(app.auth.tokens.verify(token)['sid'], undefined)
    t.equal((await app.inject({ method: 'POST', url: '/auth/logout', headers: bearer(token) })).statusCode, 204)
    t.equal((await app.inject({ url: '/who', headers: bearer(token) })).statusCode, 401)
  })

  t.test(`${kind}: where clients get refresh tokens, a flood by the least of them reaches nobody else`, async t => {
    const events: SecurityEvent[] = []
    const app = await build(
      t,
      { ...OPTIONS, ...store(), refresh: { secret, clientCredentials: true, maxPerSubject: 5 } },
      events
    )
    await app.ready()
    const keyOf = async (name: string) =>
      (await app.auth.apiKeys!.create({ name, roles: ['viewer'], expiresInSeconds: 3_600 })).key
    const post = async (url: string, headers: object, payload: object = {}) =>
      await app.inject({ method: 'POST', url, headers: { ...headers }, payload })
    const exchange = async (key: string) => await post('/auth/token', { 'x-api-key': key })
    const honest = await Promise.all(Array.from({ length: 150 }, async (_, i) => await keyOf(`program ${i}`)))
    // One after the other: each key is hashed once, and only so many may wait for that.
    const before: Array<{ readonly refresh_token: string }> = []
    for (const key of honest) before.push((await exchange(key)).json())

    const flood = await keyOf('least')
    for (let i = 0; i < 40; i++) await Promise.all(Array.from({ length: 50 }, async () => await exchange(flood)))

    for (const { refresh_token: token } of before) {
      if ((await post('/auth/refresh', {}, { refresh_token: token })).statusCode !== 200) {
        t.fail('an honest family is gone')
      }
    }
    for (let round = 0; round < 8; round++) {
      const answers = await Promise.all(honest.map(exchange))
      const failed = answers.find(answer => answer.statusCode !== 200 || !('refresh_token' in answer.json()))
      t.equal(failed?.body, undefined, `round ${round}: all are served`)
    }
    const displaced = events.filter(({ action }) => action === 'refresh_token.displace')
    t.match(displaced[0], {
      type: 'credential',
      outcome: 'success',
      principal: { kind: 'service', roles: ['viewer'] },
      object: /^[\w-]{22}$/
    })
    t.equal(displaced.length, 1_995 + 150 * 4)
    t.equal(new Set(displaced.map(({ object }) => object)).size, displaced.length, 'each is told once')
  })
}

t.test('an access token of a displaced family stays valid until it expires, and can be revoked with its family', async t => {
  const app = await build(t, { ...OPTIONS, refresh: { secret, clientCredentials: true, maxPerSubject: 1 } })
  const { key } = await app.auth.apiKeys!.create({ name: 'one', roles: ['viewer'], expiresInSeconds: 3_600 })
  const exchange = async () =>
    (await app.inject({ method: 'POST', url: '/auth/token', headers: { 'x-api-key': key } })).json()
  const first = await exchange()
  await exchange()
  const refreshed = await app.inject({
    method: 'POST',
    url: '/auth/refresh',
    payload: { refresh_token: first.refresh_token }
  })
  t.equal(refreshed.statusCode, 401)
  t.equal((await app.inject({ url: '/who', headers: bearer(first.access_token) })).statusCode, 200)
  t.equal(
    (await app.inject({ method: 'POST', url: '/auth/logout', headers: bearer(first.access_token) })).statusCode,
    204
  )
  t.equal((await app.inject({ url: '/who', headers: bearer(first.access_token) })).statusCode, 401)
})
