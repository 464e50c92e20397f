import t, { type Test } from 'tap'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import {
  createMemoryApiKeyStore,
  createRedisApiKeyStore,
  openFileApiKeyStore,
  type ApiKeyRecord,
  type ApiKeyStore
} from '@marty/auth'
import { openRedis } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'

const record = (keyId: string, changes: Partial<ApiKeyRecord> = {}): ApiKeyRecord => ({
  keyId,
  name: 'a key',
  roles: ['viewer'],
  scopes: [],
  createdAt: 1,
  expiresAt: 2,
  revokedAt: null,
  version: 1,
  secrets: [{ id: 's', algorithm: 'bcrypt', hash: '$2b$', pepperId: 'p', createdAt: 1, expiresAt: 2 }],
  ...changes
})
let serial = 0
const server = await startRedis(await freePort())
const redis = openRedis({ port: server.port, commandTimeoutMs: 2_000 })
t.teardown(async () => { await redis.close(); await server.stop() })
await redis.ready(5_000)

const A = 'aaaaaaaaaaaa'
const B = 'bbbbbbbbbbbb'

function folder (t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'marty-keys-'))
  t.teardown(() => { rmSync(path, { recursive: true, force: true }) })
  return path
}

const stores: Array<[string, (t: Test) => ApiKeyStore]> = [
  ['memory', () => createMemoryApiKeyStore()],
  ['file', t => openFileApiKeyStore(join(folder(t), 'sub', 'keys.json'))],
  ['redis', () => createRedisApiKeyStore({ redis: redis.client, prefix: `test-${serial++}` })]
]

for (const [name, open] of stores) {
  t.test(`the contract of a store: ${name}`, async t => {
    const store = open(t)
    t.equal(await store.get(A), null)
    t.strictSame(await store.list(), [])
    t.equal(await store.delete(A), false)
    t.equal(await store.put(record(A), 1), false, 'nothing to replace')
    t.equal(await store.put(record(A), null), true)
    t.equal(await store.put(record(A), null), false, 'already there')
    t.strictSame(await store.get(A), record(A))
    t.equal(await store.put(record(B), null), true)
    t.equal(await store.put(record(A, { version: 2, revokedAt: 5 }), 1), true)
    t.equal(await store.put(record(A, { version: 2 }), 1), false, 'changed meanwhile')
    t.match(await store.get(A), { version: 2, revokedAt: 5 })
    t.strictSame((await store.list()).map(({ keyId }) => keyId), [A, B], 'in order of creation')
    t.equal(await store.delete(A), true)
    t.equal(await store.get(A), null)

    const ids = Array.from({ length: 20 }, (_, index) => String(index).padStart(12, '0'))
    t.strictSame(
      await Promise.all(ids.map(async id => await store.put(record(id), null))),
      ids.map(() => true),
      'writers take turns'
    )
    t.strictSame((await store.list()).map(({ keyId }) => keyId), [B, ...ids])
    const won = await Promise.all(
      ids.map(async (_, index) => await store.put(record(B, { version: 2, name: String(index) }), 1))
    )
    t.equal(won.filter(Boolean).length, 1, 'of many changes to one version one wins')

    await store.touch(new Map([[B, 5], ['gone00000000', 6]]))
    t.strictSame([...await store.lastUsed()], [[B, 5]], 'only of keys that are there')
    t.match(await store.get(B), { version: 2 }, 'and the key is as it was')

    const given = { ...record('cccccccccccc'), roles: ['viewer'] }
    await store.put(given, null)
    given.roles.push('admin')
    t.strictSame((await store.get('cccccccccccc'))?.roles, ['viewer'], 'not reached through the object it was given')
  })
}

t.test('the file is private, whole after each change, and read again by the next process', async t => {
  const path = folder(t)
  const file = join(path, 'keys.json')
  const store = openFileApiKeyStore(file)
  await store.put(record(A), null)
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.strictSame(readdirSync(path), ['keys.json'], 'no temporary file is left')
  t.match(await openFileApiKeyStore(file).get(A), { keyId: A })
})

t.test('a change by another process is seen', async t => {
  const file = join(folder(t), 'keys.json')
  const here = openFileApiKeyStore(file)
  const there = openFileApiKeyStore(file)
  await there.put(record(A), null)
  const end = Date.now() + 10_000
  while (await here.get(A) === null && Date.now() < end) await new Promise(resolve => setTimeout(resolve, 20))
  t.match(await here.get(A), { keyId: A })
  await there.put(record(A, { version: 2 }), 1)
  t.equal(await here.put(record(A, { version: 2 }), 1), false, 'a stale version does not overwrite it')
})

t.test('a damaged file is an error that names what is wrong and quotes nothing', async t => {
  const file = join(folder(t), 'keys.json')
  for (const text of [
    '',
    '{"version":1,"keys":[{"hash":"hunter2"',
    '[]',
    'null',
    '{"version":2,"keys":[]}',
    JSON.stringify({ version: 1, keys: [{ keyId: 'hunter2' }] }),
    JSON.stringify({ version: 1, keys: [record(A), record(A)] }),
    JSON.stringify({ version: 1, keys: [record(A, { secrets: [{ hash: 'hunter2' }] as never })] }),
    JSON.stringify({ version: 1, keys: [null] }),
    JSON.stringify({ version: 1, keys: [record(A, { secrets: [null] as never })] })]) {
    writeFileSync(file, text, { mode: 0o600 })
    t.throws(() => openFileApiKeyStore(file), { code: 'MARTY_AUTH_KEY_STORE_INVALID', message: /is damaged/ }, text)
    try { openFileApiKeyStore(file) } catch (error) { t.notMatch(String(error), 'hunter2') }
  }
})

t.test('a file that is damaged while the service runs fails closed and is not overwritten', async t => {
  const file = join(folder(t), 'keys.json')
  const store = openFileApiKeyStore(file)
  await store.put(record(A), null)
  writeFileSync(file, '{"version":1,')
  await t.rejects(store.put(record(B), null), { code: 'MARTY_AUTH_KEY_STORE_INVALID', statusCode: 503 })
  t.equal(readFileSync(file, 'utf8'), '{"version":1,')
  const end = Date.now() + 10_000
  let code = ''
  while (code === '' && Date.now() < end) {
    try {
      await store.get(A)
      await new Promise(resolve => setTimeout(resolve, 20))
    } catch (error) {
      code = (error as { code: string }).code
    }
  }
  t.equal(code, 'MARTY_AUTH_KEY_STORE_INVALID')
})

t.test('a path that cannot be read or written is an error', async t => {
  const path = folder(t)
  t.throws(() => openFileApiKeyStore(path), { code: 'MARTY_AUTH_KEY_STORE_INVALID', message: /EISDIR/ })
  writeFileSync(join(path, 'plain'), '')
  chmodSync(join(path, 'plain'), 0o600)
  await t.rejects(async () => await openFileApiKeyStore(join(path, 'plain', 'keys.json')).put(record(A), null), {
    code: 'MARTY_AUTH_KEY_STORE_INVALID'
  })
})

t.test('times of use that cannot be written leave the keys, and no file, behind', async t => {
  const path = folder(t)
  const store = openFileApiKeyStore(join(path, 'keys.json'))
  await store.put(record(A), null)
  mkdirSync(join(path, 'keys.json.used'))
  await t.rejects(store.touch(new Map([[A, 5]])), {
    code: 'MARTY_AUTH_KEY_STORE_INVALID',
    message: /cannot be written/
  })
  t.strictSame(readdirSync(path).sort(), ['keys.json', 'keys.json.used'])
  t.equal((await store.lastUsed()).size, 0)
  t.equal(await store.put(record(A, { version: 2 }), 1), true)
})

t.test('Redis: a replica sees changes within a second; in an outage, known keys stay valid for a while, then 503', async t => {
  const own = await startRedis(await freePort())
  const first = openRedis({ port: own.port, commandTimeoutMs: 200, reconnectMaxDelayMs: 50 })
  const second = openRedis({ port: own.port, commandTimeoutMs: 200, reconnectMaxDelayMs: 50 })
  t.teardown(async () => {
    await Promise.all([first.close(), second.close()])
    await own.stop()
  })
  await Promise.all([first.ready(5_000), second.ready(5_000)])
  const one = createRedisApiKeyStore({ redis: first.client })
  const two = createRedisApiKeyStore({ redis: second.client })
  const alive = record(A, { expiresAt: Date.now() + 60_000 })
  await one.put(alive, null)
  t.match(await two.get(A), { revokedAt: null })
  await one.put({ ...alive, version: 2, revokedAt: 7 }, 1)
  await until(async () => (await two.get(A))?.revokedAt === 7, 'the other replica to see it')
  t.equal(await two.get(B), null)
  for (const key of await first.client.keys('*')) t.ok((await first.client.pttl(key)) > 0, `${key} goes by itself`)

  own.child.kill('SIGSTOP')
  t.match(await two.get(A), { revokedAt: 7 }, 'frozen: what was read serves')
  await t.rejects(async () => await two.get('unknown00000'), {
    code: 'MARTY_AUTH_STORE_UNAVAILABLE',
    statusCode: 503
  })
  await t.rejects(two.list(), { code: 'MARTY_AUTH_STORE_UNAVAILABLE' })
  await t.rejects(two.put(record(B), null), { code: 'MARTY_AUTH_STORE_UNAVAILABLE' })
  own.child.kill('SIGCONT')
  await until(async () => await two.list().then(() => true, () => false), 'Redis to answer again')
  for (const options of [{}, { redis: redis.client, prefix: 'a b' }]) {
    t.throws(() => createRedisApiKeyStore(options as never), { code: 'MARTY_AUTH_OPT_INVALID' })
  }
})

t.test('Redis: a record that is damaged is named and quoted nowhere, and the other keys go on', async t => {
  const prefix = `damaged-${serial++}`
  const open = (): ApiKeyStore => createRedisApiKeyStore({ redis: redis.client, prefix })
  for (const id of [A, B]) await open().put(record(id), null)
  const bridged = open()
  await bridged.get(A)
  const { secrets, ...incomplete } = record(A)
  for (const text of [
    '',
    '{"keyId":"aaaaaaaaaaaa","name":"hunter2',
    '{}',
    '[]',
    'null',
    '7',
    JSON.stringify(incomplete),
    JSON.stringify({ ...incomplete, secrets: [{ hash: 'hunter2' }] }),
    JSON.stringify(record(B))
  ]) {
    await redis.client.set(`{${prefix}}:key:${A}`, text)
    const store = open()
    for (const work of [async () => await store.get(A), async () => await store.list()]) {
      const error = await work().then(() => null, (error: Error) => error)
      t.match(error, { code: 'MARTY_AUTH_KEY_STORE_INVALID', statusCode: 503, message: new RegExp(A) }, text)
      t.notMatch(inspect(error), 'hunter2')
    }
    t.match(await store.get(B), { keyId: B })
  }
  await until(
    async () =>
      await Promise.resolve(bridged.get(A)).then(
        () => false,
        () => true
      ),
    'it to be read again: damage is no outage'
  )
  t.equal(await open().delete(A), true, 'and it can be removed')
  t.strictSame((await open().list()).map(({ keyId }) => keyId), [B])
})

t.test('Redis: what was being read while a key changed is not taken for the key afterwards', async t => {
  const store = createRedisApiKeyStore({ redis: redis.client, prefix: `race-${serial++}` })
  await store.put(record(A), null)
  const before = store.get(A)
  t.equal(await store.put(record(A, { version: 2, revokedAt: 7 }), 1), true)
  t.match(await before, { version: 1 })
  t.match(await store.get(A), { version: 2, revokedAt: 7 })
  await store.delete(A)
  await store.put(record(A), null)
  const last = store.get(A)
  t.equal(await store.delete(A), true)
  t.match(await last, { version: 1 })
  t.equal(await store.get(A), null)
})

t.test('Redis: a flood of made-up key ids pushes no known key out of what bridges an outage', async t => {
  const own = await startRedis(await freePort())
  const connection = openRedis({ port: own.port, commandTimeoutMs: 5_000 })
  t.teardown(async () => { await connection.close(); await own.stop() })
  await connection.ready(10_000)
  const store = createRedisApiKeyStore({ redis: connection.client })
  await store.put(record(A), null)
  t.match(await store.get(A), { keyId: A })
  for (let i = 0; i <= 10_000; i += 100) {
    await Promise.all(
      Array.from({ length: 100 }, async (_, index) => await store.get(String(i + index).padStart(12, '0')))
    )
  }
  own.child.kill('SIGKILL')
  await until(() => own.child.signalCode !== null, 'the end of Redis')
  t.match(await store.get(A), { keyId: A })
})

/** Without what watches this process: a child that is killed at once has nothing to tell. */
const BARE = { execArgv: [], env: { PATH: process.env['PATH'] } }

type Acknowledged = Map<string, number>

/** What a process that changes keys says is kept: the last version of each. */
function listen (writer: ChildProcess, acknowledged: Acknowledged): void {
  writer.on('message', message => { acknowledged.set(...message as [string, number]) })
}

/**
 * The keys of which the file does not hold what was acknowledged, whole; a change in flight may have been kept, too.
 */
async function lost (file: string, acknowledged: Acknowledged): Promise<string[]> {
  const kept = new Map((await openFileApiKeyStore(file).list()).map(record => [record.keyId, record]))
  return [...acknowledged].filter(([keyId, version]) => {
    const record = kept.get(keyId)
    return record === undefined || record.version < version || record.version > version + 1 ||
    record.secrets.length !== (record.version === 1 ? 1 : 2) || (record.revokedAt !== null) !== (record.version === 3)
  }).map(([keyId]) => keyId)
}

t.test('several processes may write one file at once, and nothing is lost', async t => {
  const file = join(folder(t), 'keys.json')
  const acknowledged: Acknowledged = new Map()
  const writers = Array.from({ length: 4 }, () =>
    fork(fileURLToPath(new URL('./api-key-writer.js', import.meta.url)), [file, '10'], BARE)
  )
  await Promise.all(writers.map(async writer => {
    listen(writer, acknowledged)
    await once(writer, 'close')
  }))
  t.strictSame([...acknowledged.values()], Array(40).fill(3))
  t.strictSame(await lost(file, acknowledged), [])
  t.equal((await openFileApiKeyStore(file).list()).length, 40)
})

// Two hundred processes start and wait for each other: on a busy machine that takes minutes.
t.setTimeout(600_000)

t.test('a writer killed at 200 random moments leaves a complete file with every acknowledged change', async t => {
  const file = join(folder(t), 'keys.json')
  const acknowledged: Acknowledged = new Map()
  for (let killed = 0; killed < 200;) {
    // Several at once, so that they are killed while they wait for each other, too.
    const writers = Array.from({ length: 4 }, () =>
      fork(fileURLToPath(new URL('./api-key-writer.js', import.meta.url)), [file, '1000'], BARE)
    )
    await Promise.all(writers.map(async writer => {
      listen(writer, acknowledged)
      await once(writer, 'message')
      await new Promise(resolve => setTimeout(resolve, Math.random() * 15))
      writer.kill('SIGKILL')
      await once(writer, 'close')
      killed++
    }))
  }
  t.strictSame(await lost(file, acknowledged), [])
  const versions = [...acknowledged.values()]
  t.ok(versions.length >= 200, `${versions.length} keys were acknowledged`)
  t.strictSame(new Set(versions), new Set([1, 2, 3]), 'killed after each kind of change')
  t.equal(await openFileApiKeyStore(file).put(record(A), null), true)
  t.strictSame(readdirSync(join(file, '..')), ['keys.json'], 'and what they left behind is gone')
})
