import t from 'tap'
import { Writable } from 'node:stream'
import Fastify from 'fastify'
import { auth, createApiKeys, createMemoryApiKeyStore, type ApiKeyRecord, type ApiKeyStore } from '@marty/auth'
import type { SecurityEvent } from '@marty/core'
import { until } from '@marty/testing'
import { bearer, PEPPER, secretFor, TOKENS } from '@marty/testing/tokens'
import { codeOf, keyOptions, REFUSED, request, timeMachine, wrongKeys } from './api-key-service.js'
import { build } from './service.js'

const NEW_PEPPER = secretFor('another pepper')
const secretOf = async (store: ApiKeyStore, keyId: string) => (await store.get(keyId) as ApiKeyRecord).secrets[0]!
const versionOf = async (store: ApiKeyStore, keyId: string): Promise<number> =>
  ((await store.get(keyId)) as ApiKeyRecord).version

t.test('bad options are refused by field', async t => {
  for (const [field, changes] of [
    ['hash', { hash: 'sha256' }],
    ['hash', { hash: null }],
    ['previousPeppers', { previousPeppers: PEPPER }],
    ['previousPeppers\\[1\\]', { previousPeppers: [PEPPER, 'short'] }],
    ['previousPeppers\\[0\\]', { previousPeppers: [1] }]
  ] as const) {
    t.throws(() => createApiKeys(keyOptions(changes as never)), {
      code: 'MARTY_AUTH_OPT_INVALID',
      message: new RegExp(`apiKeys\\.${field}`)
    })
  }
})

t.test('hmac-sha256: wrong, cut and bcrypt hashes are no match', async t => {
  const store = createMemoryApiKeyStore()
  const keys = createApiKeys(keyOptions({ store, hash: 'hmac-sha256' }))
  const { key, keyId } = await keys.create(request)
  for (const wrong of await wrongKeys(store, keyId, 3)) t.equal(await codeOf(() => keys.verify(wrong)), REFUSED)
  t.match(await keys.verify(key), { id: keyId })
  t.notMatch(JSON.stringify(await store.list()), key.split('_')[3]!)
  const record = await store.get(keyId) as ApiKeyRecord
  const { hash, ...secret } = record.secrets[0]!
  t.equal(secret.algorithm, 'hmac-sha256')
  const changes = [
    { hash: hash.slice(0, -1) },
    { hash: '' },
    { hash, algorithm: 'bcrypt' as const },
    { hash, pepperId: 'unknown' }
  ]
  for (const [index, change] of changes.entries()) {
    await store.put({ ...record, version: index + 2, secrets: [{ ...secret, ...change }] }, index + 1)
    t.equal(await codeOf(() => keys.verify(key)), REFUSED, JSON.stringify(change))
  }
})

for (const [from, to] of [['bcrypt', 'hmac-sha256'], ['hmac-sha256', 'bcrypt']] as const) {
  t.test(`from ${from} to ${to}: a key is hashed anew when it is used, both of its secrets go on`, async t => {
    const store = createMemoryApiKeyStore()
    const old = createApiKeys(keyOptions({ store, hash: from }))
    const first = await old.create(request)
    const { keyId } = first
    const second = await old.rotate(keyId)
    let verified = 0
    const keys = createApiKeys(keyOptions({ store, hash: to }), { onVerified: () => { verified++ } })
    const [wrong = ''] = await wrongKeys(store, keyId, 1)
    t.equal(await codeOf(() => keys.verify(wrong)), REFUSED)
    t.equal((await secretOf(store, keyId)).algorithm, from, 'a wrong secret changes nothing')

    const principal = await keys.verify(second.key)
    await until(async () => await versionOf(store, keyId) === 3, 'the new hash')
    t.strictSame((await store.get(keyId) as ApiKeyRecord).secrets.map(({ algorithm }) => algorithm), [to, from])
    t.match(await secretOf(store, keyId), { id: principal.session!.split('.')[1]!, expiresAt: second.expiresAt })
    t.equal(await keys.isAlive(principal), true, 'what was made with it goes on')
    await keys.verify(second.key)
    t.equal(verified, 1, 'and it stays known')
    t.equal(await codeOf(() => keys.verify(first.key)), 'none')
    await until(async () => await versionOf(store, keyId) === 4, 'the new hash of the old secret')
    for (const { key } of [first, second]) t.equal(await codeOf(() => keys.verify(key)), 'none')
    t.equal(await codeOf(() => keys.verify(wrong)), REFUSED)
    t.equal(await versionOf(store, keyId), 4, 'and no more')
  })
}

t.test('a new hash that cannot be kept is told of, and the key is good', async t => {
  const kept = createMemoryApiKeyStore()
  const { key, keyId } = await createApiKeys(keyOptions({ store: kept })).create(request)
  const problems: unknown[] = []
  const away = new Error('the store is away')
  const store: ApiKeyStore = { ...kept, put: async () => { throw away } }
  const keys = createApiKeys(keyOptions({ store, hash: 'hmac-sha256' }), {
    onProblem: error => {
      problems.push(error)
    }
  })
  t.match(await keys.verify(key), { id: keyId })
  await until(() => problems.length > 0, 'the problem')
  t.strictSame(problems, [away])
  t.match(await keys.verify(key), { id: keyId })
  const silent = createApiKeys(keyOptions({ store, hash: 'hmac-sha256' }))
  t.match(await silent.verify(key), { id: keyId }, 'also when nobody listens')
})

t.test('a wrong pepper refuses every key, and the start says so; a previous one lets them in and hashes them anew', async t => {
  const store = createMemoryApiKeyStore()
  const before = createApiKeys(keyOptions({ store }))
  const { key, keyId } = await before.create(request)
  await before.revoke((await before.create(request)).keyId)

  const start = async (apiKeys: ReturnType<typeof keyOptions>) => {
    const lines: string[] = []
    const app = Fastify({
      logger: {
        level: 'warn',
        stream: new Writable({
          write (line, _, done) {
            lines.push(String(line))
            done()
          }
        })
      }
    })
    t.teardown(() => app.close())
    await app.register(auth, { ...TOKENS, apiKeys })
    await app.ready()
    return { lines, keys: app.auth.apiKeys! }
  }
  const wrong = await start(keyOptions({ store, pepper: NEW_PEPPER }))
  t.equal(await codeOf(() => wrong.keys.verify(key)), REFUSED)
  t.equal(await wrong.keys.countWithUnknownPepper(), 1, 'a revoked key does not matter')
  const said = wrong.lines.map(line => JSON.parse(line) as { level: number; keys: number; msg: string })
  t.match(said, [
    { level: 50, keys: 1, msg: /pepper that is not configured here, and are refused.*"previousPeppers"/ }
  ])
  for (const secret of [PEPPER, NEW_PEPPER, keyId]) t.notMatch(wrong.lines.join(''), secret)

  const right = await start(keyOptions({ store, pepper: NEW_PEPPER, previousPeppers: [Buffer.from(PEPPER)] }))
  t.strictSame(right.lines, [])
  const { pepperId } = await secretOf(store, keyId)
  t.match(await right.keys.verify(key), { id: keyId })
  await until(async () => (await secretOf(store, keyId)).pepperId !== pepperId, 'the new hash')
  t.equal(await codeOf(() => before.verify(key)), REFUSED, 'the old pepper is needed no more')
  t.equal(await codeOf(() => createApiKeys(keyOptions({ store, pepper: NEW_PEPPER })).verify(key)), 'none')

  const broken = await start(
    keyOptions({
      store: {
        ...store,
        list: async () => {
          throw new Error('the store is away')
        }
      }
    })
  )
  t.match(
    broken.lines.map(line => JSON.parse(line)),
    [{ level: 40, msg: 'the store of API keys cannot be read' }]
  )
})

t.test('use of a secret that was replaced is told of once a minute at most', async t => {
  const advance = timeMachine(t)
  const events: SecurityEvent[] = []
  const app = await build(t, { apiKeys: keyOptions() }, events)
  const old = await app.auth.apiKeys!.create(request)
  const { key } = await app.auth.apiKeys!.rotate(old.keyId)
  const use = async (key: string): Promise<number> =>
    (await app.inject({ url: '/who', headers: bearer(key) })).statusCode
  const told = (): SecurityEvent[] => events.filter(event => event.action === 'api_key.old_secret')
  t.equal(await use(key), 200)
  t.strictSame(told(), [], 'not of the new one')
  advance(60_000)
  for (let i = 0; i < 5; i++) t.equal(await use(old.key), 200)
  t.match(told(), [{ type: 'credential', outcome: 'success', object: old.keyId }])
  advance(60_000)
  t.equal(await use(old.key), 200)
  t.equal(told().length, 2)
  advance(60_000)
  t.equal(await use(key), 200)
  t.equal(await use(old.key), 200)
  t.equal(told().length, 3, 'also when the new one is in use as well')
})
