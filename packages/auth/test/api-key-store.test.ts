import t, { type Test } from 'tap'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createMemoryApiKeyStore, openFileApiKeyStore, type ApiKeyRecord, type ApiKeyStore } from '@marty/auth'

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
const A = 'aaaaaaaaaaaa'
const B = 'bbbbbbbbbbbb'

function folder (t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'marty-keys-'))
  t.teardown(() => { rmSync(path, { recursive: true, force: true }) })
  return path
}

const stores: Array<[string, (t: Test) => ApiKeyStore]> = [
  ['memory', () => createMemoryApiKeyStore()],
  ['file', t => openFileApiKeyStore(join(folder(t), 'sub', 'keys.json'))]
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
    t.strictSame(await Promise.all(ids.map(async id => await store.put(record(id), null))), ids.map(() => true), 'writers take turns')
    t.strictSame((await store.list()).map(({ keyId }) => keyId), [B, ...ids])
    const won = await Promise.all(ids.map(async (_, index) => await store.put(record(B, { version: 2, name: String(index) }), 1)))
    t.equal(won.filter(Boolean).length, 1, 'of many changes to one version one wins')

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
  for (const text of ['', '{"version":1,"keys":[{"hash":"hunter2"', '[]', 'null', '{"version":2,"keys":[]}', JSON.stringify({ version: 1, keys: [{ keyId: 'hunter2' }] }),
    JSON.stringify({ version: 1, keys: [record(A), record(A)] }), JSON.stringify({ version: 1, keys: [record(A, { secrets: [{ hash: 'hunter2' }] as never })] }), JSON.stringify({ version: 1, keys: [null] }),
    JSON.stringify({ version: 1, keys: [record(A, { secrets: [null] as never })] })]) {
    writeFileSync(file, text)
    t.throws(() => openFileApiKeyStore(file), { code: 'MARTY_AUTH_KEY_STORE_INVALID' }, text)
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
    try { await store.get(A); await new Promise(resolve => setTimeout(resolve, 20)) } catch (error) { code = (error as { code: string }).code }
  }
  t.equal(code, 'MARTY_AUTH_KEY_STORE_INVALID')
})

t.test('a path that cannot be read or written is an error', async t => {
  const path = folder(t)
  t.throws(() => openFileApiKeyStore(path), { code: 'MARTY_AUTH_KEY_STORE_INVALID', message: /EISDIR/ })
  writeFileSync(join(path, 'plain'), '')
  chmodSync(join(path, 'plain'), 0o600)
  await t.rejects(async () => await openFileApiKeyStore(join(path, 'plain', 'keys.json')).put(record(A), null), { code: 'MARTY_AUTH_KEY_STORE_INVALID' })
})
