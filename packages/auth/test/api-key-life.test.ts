import t, { type Test } from 'tap'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  createApiKeys,
  createMemoryApiKeyStore,
  createRedisApiKeyStore,
  openFileApiKeyStore,
  type ApiKeyStore
} from '@marty/auth'
import type { SecurityEvent } from '@marty/core'
import { openRedis } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'
import { bearer } from '@marty/testing/tokens'
import { codeOf, keyOptions, REFUSED, request, timeMachine } from './api-key-service.js'
import { build } from './service.js'

const server = await startRedis(await freePort())
const redis = openRedis({ port: server.port, commandTimeoutMs: 2_000 })
t.teardown(async () => { await redis.close(); await server.stop() })
await redis.ready(10_000)

const folder = mkdtempSync(join(tmpdir(), 'marty-key-life-'))
t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
const file = join(folder, 'keys.json')
const kept = createMemoryApiKeyStore()

const stores: Array<[string, () => ApiKeyStore]> = [
  ['memory', () => kept],
  ['file', () => openFileApiKeyStore(file)],
  ['redis', () => createRedisApiKeyStore({ redis: redis.client, prefix: 'life' })]
]

t.test('a store that cannot keep when a key was used keeps nobody waiting, and is told of', async t => {
  const problems: unknown[] = []
  const store = createMemoryApiKeyStore()
  let fail = (): void => {}
  const keys = createApiKeys(keyOptions({
    hash: 'hmac-sha256',
    store: {
      ...store,
      touch: async () =>
        await new Promise((resolve, reject) => {
          fail = () => {
            reject(new Error('the disk is full'))
          }
        })
    }
  }), { onProblem: error => { problems.push(error) } })
  const { key, keyId } = await keys.create(request)
  t.match(await keys.verify(key), { id: keyId })
  const closing = keys.close()
  t.match(await keys.verify(key), { id: keyId })
  fail()
  await closing
  t.match(problems, [{ message: 'the disk is full' }])
})

t.test('closing waits for what is being written already', async t => {
  const store = createMemoryApiKeyStore()
  const steps: string[] = []
  let finish = (): void => {}
  const keys = createApiKeys(keyOptions({
    hash: 'hmac-sha256',
    store: {
      ...store,
      touch: async () =>
        await new Promise(resolve => {
          steps.push('begun')
          finish = () => {
            steps.push('written')
            resolve()
          }
        })
    }
  }))
  const { key } = await keys.create(request)
  await keys.verify(key)
  await until(() => steps.length > 0, 'the write to begin')
  const closing = keys.close().then(() => { steps.push('closed') })
  await new Promise(resolve => setImmediate(resolve))
  finish()
  await closing
  t.strictSame(steps, ['begun', 'written', 'closed'])
})

for (const [name, open] of stores) {
  t.test(`${name}: a key is revoked whoever changes it at the same time`, async t => {
    const [here, there] = [
      createApiKeys(keyOptions({ hash: 'hmac-sha256', store: open() })),
      createApiKeys(keyOptions({ hash: 'hmac-sha256', store: open() }))
    ]
    const { key, keyId } = await here.create(request)
    t.equal(await codeOf(() => here.verify(key)), 'none', 'its record is known here')
    await until(async () => await there.isUsable(keyId), 'the other process to see the key')
    await there.rotate(keyId)
    await here.revoke(keyId)
    t.equal(await codeOf(() => here.verify(key)), REFUSED)

    const second = await here.create(request)
    await until(async () => await there.isUsable(second.keyId), 'the other process to see the second key')
    const changes = await Promise.allSettled([
      here.rotate(second.keyId),
      there.rotate(second.keyId),
      here.revoke(second.keyId),
      there.revoke(second.keyId),
      here.revoke(second.keyId)
    ])
    t.strictSame(changes.slice(2).map(({ status }) => status), ['fulfilled', 'fulfilled', 'fulfilled'])
    t.equal(await here.isUsable(second.keyId), false)
    t.equal(await codeOf(() => here.verify(second.key)), REFUSED)
    for (const id of [keyId, second.keyId]) t.ok((await here.list()).find(one => one.keyId === id)!.revokedAt)
    const ended = new Set([keyId, second.keyId])
    t.equal((await here.prune()).filter(one => ended.has(one.keyId)).length, 2)
  })

  t.test(`${name}: last use is kept to the minute, beside the requests, and closing writes it down`, async t => {
    const advance = timeMachine(t)
    const touched: string[][] = []
    const store = open()
    const counting: ApiKeyStore = {
      ...store,
      async touch (used) {
        await store.touch(used)
        touched.push([...used.keys()])
      }
    }
    const keys = createApiKeys(keyOptions({ hash: 'hmac-sha256', store: counting }))
    const [one, two] = [await keys.create(request), await keys.create(request)]
    const usedAt = async (from = keys): Promise<Array<number | null>> =>
      (await from.list()).map(({ lastUsedAt }) => lastUsedAt)
    t.strictSame(await usedAt(), [null, null])

    const from = Date.now()
    for (let i = 0; i < 5; i++) await keys.verify(one.key)
    t.strictSame(touched, [], 'no request writes')
    const [first] = await usedAt()
    t.ok(first! >= from && first! <= Date.now(), 'known at once')
    await until(() => touched.length > 0, 'it to be kept')
    t.equal((await usedAt(createApiKeys(keyOptions({ store: open() }))))[0], first, 'for other processes, too')
    advance(30_000)
    await keys.verify(one.key)
    t.equal((await usedAt())[0], first, 'within the minute')
    advance(31_000)
    await keys.verify(one.key)
    await keys.verify(two.key)
    t.ok((await usedAt())[0]! > first!)
    await keys.close()
    await keys.close()
    t.strictSame(touched, [[one.keyId], [one.keyId, two.keyId]])
    t.ok((await usedAt(createApiKeys(keyOptions({ store: open() })))).every(time => time! > first!))
    t.equal((await keys.rotate(two.keyId)).lastUsedAt, (await usedAt())[1])
    if (name === 'file') {
      t.equal(statSync(`${file}.used`).mode & 0o777, 0o600)
      t.strictSame(Object.keys(JSON.parse(readFileSync(`${file}.used`, 'utf8'))), [one.keyId, two.keyId])
    }
  })

  t.test(`${name}: prune removes what has ended long enough ago, and nothing else`, async t => {
    const advance = timeMachine(t)
    const keys = createApiKeys(keyOptions({ hash: 'hmac-sha256', store: open() }))
    for (const olderThanSeconds of [-1, 1.5, NaN, '1' as never]) {
      await t.rejects(keys.prune({ olderThanSeconds }), {
        code: 'MARTY_AUTH_REQUEST_INVALID',
        message: /olderThanSeconds/
      })
    }
    const before = (await keys.list()).map(({ keyId }) => keyId)
    const [short, revoked, alive] = [
      await keys.create({ ...request, expiresInSeconds: 60 }),
      await keys.create(request),
      await keys.create(request)
    ]
    const principal = await keys.verify(revoked.key)
    await keys.revoke(revoked.keyId)
    t.strictSame(
      [await keys.isUsable(alive.keyId), await keys.isUsable(revoked.keyId), await keys.isUsable('unknown00000')],
      [true, false, false]
    )
    t.strictSame(await keys.prune({ olderThanSeconds: 100 }), [])
    advance(101_000)
    t.strictSame((await keys.prune({ olderThanSeconds: 100 })).map(({ keyId }) => keyId), [revoked.keyId])
    const gone = await keys.prune()
    t.match(gone, [{ keyId: short.keyId, name: 'recorder', activeSecrets: 0 }])
    t.notMatch(JSON.stringify(gone), /hash|pepper/)
    t.strictSame((await keys.list()).map(({ keyId }) => keyId), [...before, alive.keyId])
    t.equal(await codeOf(() => keys.verify(revoked.key)), REFUSED)
    t.equal(await keys.isAlive(principal), false)
    t.equal(await codeOf(() => keys.verify(alive.key)), 'none')
    t.strictSame(await keys.prune(), [])
    await keys.close()
  })
}

t.test('a store that refuses every change of a key is told of', async t => {
  const keys = createApiKeys(
    keyOptions({
      store: {
        ...createMemoryApiKeyStore(),
        put: async (_, expectedVersion) => expectedVersion === null,
        get: keyId => ({
          keyId,
          name: 'a key',
          roles: [],
          scopes: [],
          createdAt: 1,
          expiresAt: Infinity,
          revokedAt: null,
          version: 1,
          secrets: []
        })
      }
    })
  )
  for (const change of [keys.revoke, keys.rotate]) {
    await t.rejects(
      async () => {
        await change('aaaaaaaaaaaa')
      },
      { code: 'MARTY_AUTH_KEY_CONFLICT', statusCode: 409 }
    )
  }
})

async function tokenOf (app: Awaited<ReturnType<typeof build>>, key: string): Promise<string> {
  const answer = await app.inject({ method: 'POST', url: '/auth/token', headers: { 'x-api-key': key } })
  return answer.json<{ access_token: string }>().access_token
}

for (const [name, open] of [
  ['memory', createMemoryApiKeyStore],
  ['redis', () => createRedisApiKeyStore({ redis: redis.client, prefix: 'tokens' })]
] as Array<[string, () => ApiKeyStore]>) {
  t.test(`${name}: a token that a key was exchanged for dies with the key, and is told of once`, async (t: Test) => {
    const events: SecurityEvent[] = []
    const app = await build(t, { routes: true, apiKeys: keyOptions({ store: open(), hash: 'hmac-sha256' }) }, events)
    const [mine, other] = [await app.auth.apiKeys!.create(request), await app.auth.apiKeys!.create(request)]
    const [token, otherToken] = [await tokenOf(app, mine.key), await tokenOf(app, other.key)]
    const ask = async (token: string): Promise<number> =>
      (await app.inject({ url: '/who', headers: bearer(token) })).statusCode
    events.length = 0
    for (let i = 0; i < 3; i++) t.equal(await ask(token), 200)
    t.match(
      events.filter(event => event.outcome === 'success' && event.action.startsWith('authenticate.')),
      [{ action: 'authenticate.jwt', principal: { id: mine.keyId }, address: '127.0.0.1', requestId: String }]
    )
    const principal = await app.guard.authenticate(token, { address: null, requestId: '1' })
    await app.auth.apiKeys!.rotate(mine.keyId, { overlapSeconds: 0 })
    t.equal(await ask(token), 200, 'a rotation keeps it')
    await app.auth.apiKeys!.revoke(mine.keyId)
    t.equal(await ask(token), 401)
    t.equal(await app.guard.isAlive(principal), false)
    t.equal(await ask(otherToken), 200)
    t.equal(
      await ask(app.auth.tokens.issue({ subject: 'alice' }).token),
      200,
      'a token without a key is no matter of keys'
    )
  })
}

t.test('without Redis known keys go on, and what is not known is answered with 503', async t => {
  const own = await startRedis(await freePort())
  const connection = openRedis({ port: own.port, commandTimeoutMs: 200, reconnectMaxDelayMs: 50 })
  t.teardown(async () => { await connection.close(); await own.stop() })
  await connection.ready(10_000)
  const app = await build(t, { apiKeys: keyOptions({ store: createRedisApiKeyStore({ redis: connection.client }) }) })
  const [known, unknown] = [await app.auth.apiKeys!.create(request), await app.auth.apiKeys!.create(request)]
  const ask = async (key: string) => await app.inject({ url: '/who', headers: { 'x-api-key': key } })
  await until(async () => (await ask(known.key)).statusCode === 200, 'the key to be known')
  own.child.kill('SIGKILL')
  await until(() => own.child.signalCode !== null, 'the end of Redis')
  const answer = await ask(unknown.key)
  t.match(answer.json(), { status: 503, code: 'MARTY_AUTH_STORE_UNAVAILABLE' })
  t.ok(Number(answer.headers['retry-after']) > 0)
  t.equal((await ask(known.key)).statusCode, 200)
  t.equal((await ask('cam_test_nonsense')).statusCode, 401, 'what is no key asks nobody')
  await t.rejects(app.auth.apiKeys!.create(request), { code: 'MARTY_AUTH_STORE_UNAVAILABLE' })
})
