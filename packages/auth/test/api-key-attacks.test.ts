import t from 'tap'
import type { LightMyRequestResponse } from 'fastify'
import {
  createApiKeys,
  createLockout,
  createMemoryApiKeyStore,
  type ApiKeyHooks,
  type ApiKeyRecord,
  type ApiKeyRequest,
  type ApiKeyStore
} from '@marty/auth'
import type { Principal, SecurityEvent } from '@marty/core'
import { until } from '@marty/testing'
import { codeOf, keyOptions, REFUSED, request, timeMachine, wrongKeys } from './api-key-service.js'
import { build } from './service.js'

const HOME = { address: '192.0.2.1' }

/** A real lockout that counts the secrets that were hashed and found wrong. */
function countingLockout (): { hooks: ApiKeyHooks, failures: () => number } {
  const lockout = createLockout('memory', { maxFailures: 2 })
  let failures = 0
  return {
    hooks: { lockout: { ...lockout, fail (account, address) { failures++; return lockout.fail(account, address) } } },
    failures: () => failures
  }
}

t.test('a network that is none is refused by name, and a stored list that cannot be read lets nobody in', async t => {
  const store = createMemoryApiKeyStore()
  const keys = createApiKeys(keyOptions({ store, hash: 'hmac-sha256' }))
  for (const cidr of [
    '192.0.2.0',
    '192.0.2.0/',
    '192.0.2.0/33',
    '192.0.2.0/-1',
    '192.0.2.0/1.5',
    '192.0.2.0/24/8',
    '192.0.2/24',
    '2001:db8::/129',
    'fe80::1%eth0/64',
    'example.org/8',
    '',
    7,
    null
  ]) {
    await t.rejects(keys.create({ ...request, cidrs: ['10.0.0.0/8', cidr] } as ApiKeyRequest), {
      code: 'MARTY_AUTH_REQUEST_INVALID',
      message: new RegExp(`"cidrs" contains "${cidr}"`)
    })
  }
  for (const cidrs of ['10.0.0.0/8', Array(65).fill('10.0.0.0/8')]) {
    await t.rejects(keys.create({ ...request, cidrs } as ApiKeyRequest), {
      code: 'MARTY_AUTH_REQUEST_INVALID',
      message: /at most 64 networks/
    })
  }
  const { key, keyId } = await keys.create(request)
  await store.put({ ...await store.get(keyId) as ApiKeyRecord, version: 2, cidrs: ['0.0.0.0/0', 'damaged'] }, 1)
  t.equal(await codeOf(() => keys.verify(key, HOME)), REFUSED)
})

t.test('a key is good from its networks alone, also once it is known', async t => {
  const keys = createApiKeys(keyOptions({ hash: 'hmac-sha256' }))
  const cidrs = ['192.0.2.0/24', '2001:db8::/32']
  const { key, cidrs: told } = await keys.create({ ...request, cidrs })
  t.strictSame(told, cidrs)
  for (let i = 0; i < 2; i++) {
    for (const address of [null, '', '192.0.3.1', '::ffff:192.0.3.1', '2001:db9::1', '192.0.2.1 ', 'unknown']) {
      t.equal(await codeOf(() => keys.verify(key, { address })), REFUSED, `${address}`)
    }
    t.equal(await codeOf(() => keys.verify(key)), REFUSED, 'from nowhere')
    for (const address of ['192.0.2.255', '::ffff:192.0.2.1', '::FFFF:192.0.2.1', '2001:db8:ffff::1']) {
      t.equal(await codeOf(() => keys.verify(key, { address })), 'none', address)
    }
  }
  const { key: anywhere } = await keys.create(request)
  t.equal(await codeOf(() => keys.verify(anywhere)), 'none')
})

t.test('over HTTP: wrong secrets lock their address out of the key; others, and who is known, are not touched', async t => {
  const advance = timeMachine(t)
  const events: SecurityEvent[] = []
  const store = createMemoryApiKeyStore()
  const app = await build(t, { lockout: { maxFailures: 2 }, apiKeys: keyOptions({ store }) }, events)
  const { key, keyId } = await app.auth.apiKeys!.create(request)
  const ask = async (apiKey: string, remoteAddress: string): Promise<LightMyRequestResponse> =>
    await app.inject({ url: '/who', remoteAddress, headers: { 'x-api-key': apiKey } })
  const wrong = await wrongKeys(store, keyId, 4)
  for (const one of wrong.slice(0, 2)) t.match((await ask(one, '192.0.2.1')).json(), { status: 401, code: REFUSED })
  for (const one of [wrong[2]!, key]) {
    const locked = await ask(one, '192.0.2.1')
    t.match(locked.json(), { status: 429, code: 'MARTY_AUTH_LOCKED' })
    const retryAfter = Number(locked.headers['retry-after'])
    t.ok(retryAfter > 800 && retryAfter <= 900, `${retryAfter}`)
  }
  t.strictSame(
    events.filter(event => event.action === 'account.lock').map(event => event.object),
    [keyId]
  )
  t.equal((await ask(wrong[3]!, '192.0.2.2')).statusCode, 401, 'another address is heard')
  t.equal((await ask(key, '192.0.2.2')).statusCode, 200)
  t.equal((await ask(key, '192.0.2.1')).statusCode, 200, 'known: no lock')
  advance(61_000)
  t.equal((await ask(key, '192.0.2.1')).statusCode, 200, 'known, and hashed again: no lock')
  t.equal((await ask(wrong[2]!, '192.0.2.1')).statusCode, 429)
  t.strictSame(
    events
      .filter(event => event.action === 'authenticate.apiKey' && event.outcome === 'success')
      .map(event => [event.principal.id, event.address]),
    [
      [keyId, '192.0.2.2'],
      [keyId, '192.0.2.1']
    ],
    'told of each hash, not of each request'
  )
})

for (const hash of ['bcrypt', 'hmac-sha256'] as const) {
  t.test(`${hash}: of a thousand wrong secrets from one address two are hashed`, async t => {
    const store = createMemoryApiKeyStore()
    const { hooks, failures } = countingLockout()
    const keys = createApiKeys(keyOptions({ store, hash, hashing: { concurrency: 1 } }), hooks)
    const { key, keyId } = await keys.create(request)
    const wrong = await wrongKeys(store, keyId, 1_000)
    const codes = await Promise.all(wrong.map(async one => await codeOf(() => keys.verify(one, HOME))))
    if (hash === 'bcrypt') {
      t.equal(failures(), 2)
      t.equal(codes.filter(code => code === REFUSED).length, 2)
      t.equal(codes.filter(code => code === 'MARTY_AUTH_LOCKED').length, 7, 'waited, and were not hashed any more')
      t.equal(codes.filter(code => code === 'MARTY_AUTH_BUSY').length, 991)
    }
    const before = failures()
    for (const one of wrong) {
      if ((await codeOf(() => keys.verify(one, HOME))) !== 'MARTY_AUTH_LOCKED') t.fail('was not refused by the lock')
    }
    t.equal(failures(), before, 'and once it is locked, none')
    t.equal(await codeOf(() => keys.verify(key, { address: '192.0.2.2' })), 'none')
  })
}

t.test('over HTTP: a flood from many addresses gets 503 with Retry-After, while a known key is answered', async t => {
  const store = createMemoryApiKeyStore()
  const app = await build(t, { apiKeys: keyOptions({ store }) })
  const { key, keyId } = await app.auth.apiKeys!.create(request)
  const ask = async (apiKey: string, remoteAddress: string): Promise<LightMyRequestResponse> =>
    await app.inject({ url: '/who', remoteAddress, headers: { 'x-api-key': apiKey } })
  t.equal((await ask(key, '192.0.2.1')).statusCode, 200)
  const wrong = await wrongKeys(store, keyId, 60)
  const flood = wrong.map(async (one, index) => await ask(one, `198.51.100.${index}`))
  for (const answer of await Promise.all(Array.from({ length: 20 }, async () => await ask(key, '192.0.2.1')))) {
    t.equal(answer.statusCode, 200)
  }
  const answers = await Promise.all(flood)
  const busy = answers.filter(({ statusCode }) => statusCode === 503)
  t.equal(answers.filter(({ statusCode }) => statusCode === 401).length, 9, 'one ran, eight waited')
  t.equal(busy.length, 51)
  for (const answer of busy) t.match(answer.json(), { code: 'MARTY_AUTH_BUSY' })
  t.equal(busy[0]!.headers['retry-after'], '1')
})

t.test('known keys that must be hashed again go before all strangers, in the order they came', async t => {
  const advance = timeMachine(t)
  const store = createMemoryApiKeyStore()
  const keys = createApiKeys(keyOptions({ store, hashing: { concurrency: 1, maxWaiting: 6 } }))
  const [victim, second, third] = [await keys.create(request), await keys.create(request), await keys.create(request)]
  for (const { key } of [victim, second, third]) await keys.verify(key, HOME)
  advance(61_000)
  const order: string[] = []
  const note = async (name: string, key: string, address: string): Promise<void> => {
    const code = await codeOf(() => keys.verify(key, { address }))
    order.push(code === 'none' || code === REFUSED ? name : code)
  }
  const strangers = [...(await wrongKeys(store, victim.keyId, 4)), ...(await wrongKeys(store, second.keyId, 4))].map(
    async (key, index) => {
      await note('stranger', key, `198.51.100.${index}`)
    }
  )
  await new Promise(resolve => setImmediate(resolve))
  const owners = [
    note('victim', victim.key, HOME.address),
    note('second', second.key, HOME.address),
    note('third', third.key, HOME.address),
    note('victim elsewhere', victim.key, '192.0.2.2')
  ]
  await Promise.all([...strangers, ...owners])
  t.strictSame(
    order,
    ['MARTY_AUTH_BUSY', 'stranger', 'victim', 'victim elsewhere', 'second', 'third', ...Array(6).fill('stranger')],
    'after the one that ran already'
  )
})

t.test('a key in use is hashed again before anybody has to wait for it', async t => {
  const advance = timeMachine(t)
  let verified = 0
  const keys = createApiKeys(keyOptions(), { onVerified: () => { verified++ } })
  const { key, keyId } = await keys.create(request)
  await keys.verify(key, HOME)
  advance(44_000)
  t.notOk(keys.verify(key, HOME) instanceof Promise)
  for (let minute = 2; minute < 5; minute++) {
    advance(minute === 2 ? 2_000 : 46_000)
    for (let i = 0; i < 50; i++) {
      if (keys.verify(key, { address: `192.0.2.${i}` }) instanceof Promise) t.fail('a request waited')
    }
    await until(() => verified === minute, 'the hash in the background')
  }
  t.equal(verified, 4, 'once for all addresses')

  advance(46_000)
  const { id } = keys.verify(key, HOME) as Principal
  t.equal(id, keyId)
  await keys.revoke(keyId)
  t.throws(() => keys.verify(key, HOME), { code: REFUSED }, 'revoked while it was hashed')
})

t.test('what fails in the background harms no request, and a wrong secret ends what was known', async t => {
  const advance = timeMachine(t)
  const kept = createMemoryApiKeyStore()
  let answers: Array<(keyId: string) => ReturnType<ApiKeyStore['get']>> = []
  let asked = 0
  const store: ApiKeyStore = {
    ...kept,
    get (keyId) {
      asked++
      return (answers.shift() ?? kept.get)(keyId)
    }
  }
  const keys = createApiKeys(keyOptions({ store }))
  const [{ key, keyId }, other] = [await keys.create(request), await keys.create(request)]
  await keys.verify(key, HOME)

  advance(46_000)
  answers = [kept.get, async () => { throw new Error('the store is away') }]
  asked = 0
  t.match(keys.verify(key, HOME), { id: keyId })
  await until(() => asked === 2, 'the hash in the background')
  t.match(keys.verify(key, HOME), { id: keyId }, 'it serves to its end')
  await until(() => asked === 4, 'the next hash in the background')

  advance(46_000)
  const record = await kept.get(keyId) as ApiKeyRecord
  const { hash } = (await kept.get(other.keyId) as ApiKeyRecord).secrets[0]!
  // As after a backup was put back.
  const restored = { ...record, secrets: [{ ...record.secrets[0]!, hash }] }
  answers = Array(1_000).fill(() => restored)
  t.match(keys.verify(key, HOME), { id: keyId })
  await until(async () => await codeOf(() => keys.verify(key, HOME)) === REFUSED, 'the wrong secret to be found')
})
