import t from 'tap'
import fc from 'fast-check'
import { createHash } from 'node:crypto'
import {
  createApiKeys,
  createMemoryApiKeyStore,
  type ApiKeyOptions,
  type ApiKeyRecord,
  type ApiKeyRequest,
  type ApiKeys,
  type ApiKeyStore
} from '@marty/auth'
import type { MartyError, SecurityEvent } from '@marty/core'
import { bearer, PEPPER, secretFor } from '@marty/testing/tokens'
import { build } from './service.js'

const options = (changes: Partial<ApiKeyOptions> = {}): ApiKeyOptions => ({
  store: createMemoryApiKeyStore(),
  prefix: 'cam',
  environment: 'test',
  pepper: PEPPER,
  bcryptCost: 8,
  ...changes
})
const request: ApiKeyRequest = { name: 'recorder', roles: ['operator'], scopes: ['media'], expiresInSeconds: 3_600 }
const FORM = /^cam_test_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$/

async function codeOf (work: () => unknown): Promise<string> {
  try {
    await work()
    return 'none'
  } catch (error) {
    return (error as MartyError).code
  }
}

/** A store that counts how often it is asked. */
function counted (): ApiKeyStore & { asked: number } {
  const store = createMemoryApiKeyStore()
  return { ...store, asked: 0, get (keyId) { this.asked++; return store.get(keyId) } }
}

t.test('bad options and requests are refused by field', async t => {
  for (const [field, changes] of [
    ['store', { store: {} }],
    ['prefix', { prefix: 'C' }],
    ['prefix', { prefix: 'ses' }],
    ['environment', { environment: 'a_b' }],
    ['pepper', { pepper: 'short pepper' }],
    ['pepper', { pepper: 1 }],
    ['bcryptCost', { bcryptCost: 4 }],
    ['hashing.concurrency', { hashing: { concurrency: 0 } }]
  ] as const) {
    t.throws(() => createApiKeys(options(changes as Partial<ApiKeyOptions>)), {
      code: 'MARTY_AUTH_OPT_INVALID',
      message: new RegExp(`apiKeys\\.${field}`)
    })
  }
  const keys = createApiKeys(options())
  for (const [field, changes] of [
    ['name', { name: '' }],
    ['roles', { roles: 'admin' }],
    ['scopes', { scopes: [1] }],
    ['expiresInSeconds', { expiresInSeconds: undefined }],
    ['expiresInSeconds', { expiresInSeconds: 365 * 86_400 + 1 }],
    ['expiresInSeconds', { expiresInSeconds: Infinity }]
  ] as const) {
    await t.rejects(keys.create({ ...request, ...changes } as ApiKeyRequest), {
      code: 'MARTY_AUTH_REQUEST_INVALID',
      message: new RegExp(field)
    })
  }
  await t.rejects(keys.rotate('000000000000'), { code: 'MARTY_AUTH_KEY_NOT_FOUND', statusCode: 404 })
  await t.rejects(keys.revoke('000000000000'), { code: 'MARTY_AUTH_KEY_NOT_FOUND' })
  const { keyId } = await keys.create(request)
  await t.rejects(keys.rotate(keyId, { overlapSeconds: 8 * 86_400 }), {
    code: 'MARTY_AUTH_REQUEST_INVALID',
    message: /overlapSeconds/
  })
})

t.test('a mistyped key is refused without asking the store', async t => {
  const store = counted()
  const keys = createApiKeys(options({ store }))
  const { key } = await keys.create(request)
  store.asked = 0
  const at = fc.nat(key.length - 1)
  const mutated = fc.oneof(
    fc.record({ at, to: fc.constantFrom(...'0Az_- ') }).map(({ at, to }) => key.slice(0, at) + to + key.slice(at + 1)),
    fc.record({ at }).map(({ at }) => key.slice(0, at) + key.slice(at + 1)),
    fc.string(),
    fc.constantFrom(`${key}0`, `${key}\n`, key.toLowerCase(), '')
  ).filter(text => text !== key)
  fc.assert(fc.property(mutated, text => {
    try {
      void keys.verify(text)
      return false
    } catch (error) {
      return (error as MartyError).code === 'MARTY_CORE_CREDENTIAL_INVALID'
    }
  }), { numRuns: 2_000 })
  t.equal(store.asked, 0)
})

t.test('unknown, foreign, expired and revoked keys are refused with the same error', async t => {
  const store = createMemoryApiKeyStore()
  const keys = createApiKeys(options({ store }))
  const { key, keyId } = await keys.create(request)
  const elsewhere = await createApiKeys(options()).create(request)
  const otherEnvironment = await createApiKeys(options({ environment: 'prod' })).create(request)
  const otherPepper = createApiKeys(options({ store, pepper: secretFor('another pepper') }))
  t.equal(await codeOf(() => keys.verify(elsewhere.key)), 'MARTY_CORE_CREDENTIAL_INVALID')
  t.equal(await codeOf(() => keys.verify(otherEnvironment.key)), 'MARTY_CORE_CREDENTIAL_INVALID')
  t.equal(await codeOf(() => otherPepper.verify(key)), 'MARTY_CORE_CREDENTIAL_INVALID')
  t.equal(await codeOf(() => keys.verify(key)), 'none')

  const stored = await store.get(keyId) as ApiKeyRecord
  await store.put({ ...stored, version: 2, expiresAt: Date.now() - 1 }, 1)
  t.equal(
    await codeOf(() => keys.verify(key)),
    'MARTY_CORE_CREDENTIAL_INVALID',
    'expired, although verified a moment ago'
  )
  await store.put({ ...stored, version: 3 }, 2)
  const principal = await keys.verify(key)
  t.equal(await keys.isAlive(principal), true)
  await keys.revoke(keyId)
  await keys.revoke(keyId)
  t.equal(await keys.isAlive(principal), false)
  t.equal(await codeOf(() => keys.verify(key)), 'MARTY_CORE_CREDENTIAL_INVALID', 'revoked')
  await t.rejects(keys.rotate(keyId), { code: 'MARTY_AUTH_REQUEST_INVALID' })
})

t.test('a key has the promised form, is kept only as a hash, and stands for its roles', async t => {
  const store = createMemoryApiKeyStore()
  const keys = createApiKeys(options({ store }))
  const issued = await keys.create(request)
  t.match(issued.key, FORM)
  const secret = issued.key.split('_')[3]!
  const atRest = JSON.stringify(await store.list())
  t.notMatch(atRest, secret)
  t.notMatch(atRest, createHash('sha256').update(secret).digest('hex'))
  t.match((await store.get(issued.keyId))?.secrets[0]?.hash, /^\$2b\$08\$/)
  t.match(await keys.verify(issued.key), {
    id: issued.keyId,
    kind: 'key',
    roles: ['operator'],
    scopes: ['media'],
    authenticatedBy: 'apiKey',
    expiresAt: issued.expiresAt
  })
  t.strictSame(
    Object.keys((await keys.list())[0]!).sort(),
    ['activeSecrets', 'cidrs', 'createdAt', 'expiresAt', 'keyId', 'lastUsedAt', 'name', 'revokedAt', 'roles', 'scopes'],
    'a list shows no hash'
  )
})

t.test('two secrets of one key that agree in 72 bytes are told apart', async t => {
  const keys = createApiKeys(options())
  const { key, keyId } = await keys.create(request)
  const other = await keys.rotate(keyId, { overlapSeconds: 0 })
  t.equal(other.keyId, keyId)
  t.equal(await codeOf(() => keys.verify(key)), 'MARTY_CORE_CREDENTIAL_INVALID')
  t.equal(await codeOf(() => keys.verify(other.key)), 'none')
})

t.test('rotation: both secrets are valid in the overlap, at most two, the old one not beyond it', async t => {
  const keys = createApiKeys(options())
  const first = await keys.create(request)
  const second = await keys.rotate(first.keyId, { overlapSeconds: 600 })
  t.equal(second.activeSecrets, 2)
  const old = await keys.verify(first.key)
  t.ok((old.expiresAt ?? Infinity) <= Date.now() + 600_000)
  t.equal((await keys.verify(second.key)).expiresAt, second.expiresAt)
  const third = await keys.rotate(first.keyId)
  t.equal(third.activeSecrets, 2)
  t.equal(await keys.isAlive(old), false)
  t.equal(await codeOf(() => keys.verify(first.key)), 'MARTY_CORE_CREDENTIAL_INVALID', 'a third secret is not kept')
  t.equal(await codeOf(() => keys.verify(second.key)), 'none')
})

t.test('a verified key is answered at once from then on, until its record changes', async t => {
  const keys = createApiKeys(options())
  const { key, keyId } = await keys.create(request)
  t.ok(keys.verify(key) instanceof Promise, 'hashes')
  await keys.verify(key)
  t.notOk(keys.verify(key) instanceof Promise, 'cached')
  await keys.rotate(keyId)
  t.ok(keys.verify(key) instanceof Promise, 'hashes again')
})

t.test('a key that is revoked while it is being hashed is refused', async t => {
  const keys = createApiKeys(options())
  const { key, keyId } = await keys.create(request)
  const verifying = Promise.resolve(keys.verify(key))
  verifying.catch(() => {})
  await keys.revoke(keyId)
  t.equal(await codeOf(async () => await verifying), 'MARTY_CORE_CREDENTIAL_INVALID')
})

t.test('one key at a time: the same key shares one verification', async t => {
  const keys = createApiKeys(options({ hashing: { concurrency: 1, maxWaiting: 0, maxWaitingPerKey: 0 } }))
  const { key } = await keys.create(request)
  const answers = await Promise.all(Array.from({ length: 50 }, async () => await keys.verify(key)))
  t.equal(new Set(answers.map(({ id }) => id)).size, 1)
})

t.test('a flood of wrong secrets is turned away with 503 and Retry-After, while other keys get in', async t => {
  const store = createMemoryApiKeyStore()
  const maker = createApiKeys(options({ store }))
  const victim = await maker.create(request)
  const other = await maker.create(request)
  const wrong: string[] = []
  for (let i = 0; i < 12; i++) wrong.push(await wrongKey(victim.keyId))
  const app = await build(t, {
    lockout: false,
    apiKeys: options({ store, hashing: { concurrency: 2, maxWaitingPerKey: 3, maxWaiting: 10 } })
  })
  const flood = wrong.map(async key => await app.inject({ url: '/who', headers: { 'x-api-key': key } }))
  const served = await app.inject({ url: '/who', headers: { 'x-api-key': other.key } })
  t.equal(served.statusCode, 200)
  const answers = await Promise.all(flood)
  const busy = answers.filter(answer => answer.statusCode === 503)
  t.equal(answers.filter(answer => answer.statusCode === 401).length, 4, 'one hashed, three waited')
  t.equal(busy.length, 8)
  t.equal(busy[0]?.headers['retry-after'], '1')
  t.match(busy[0]?.json(), { code: 'MARTY_AUTH_BUSY', status: 503 })

  /** Well formed, with a right checksum, for a key id that exists. */
  async function wrongKey (keyId: string): Promise<string> {
    const foreign = createMemoryApiKeyStore()
    const record = await store.get(keyId) as ApiKeyRecord
    await foreign.put(record, null)
    return (await createApiKeys(options({ store: foreign })).rotate(keyId)).key
  }
})

t.test('over HTTP: X-API-Key and Bearer, refusals like those of tokens, events without secrets', async t => {
  const events: SecurityEvent[] = []
  const app = await build(t, { apiKeys: options() }, events)
  const keys = app.auth.apiKeys as ApiKeys
  const { key, keyId } = await keys.create(request)
  for (const headers of [{ 'x-api-key': key }, bearer(key)]) {
    t.match((await app.inject({ url: '/who', headers })).json(), {
      id: keyId,
      kind: 'key',
      roles: ['operator'],
      authenticatedBy: 'apiKey'
    })
  }
  const token = app.auth.tokens.issue({ subject: 'alice' }).token
  for (const headers of [
    { 'x-api-key': `${key}x` },
    { 'x-api-key': '' },
    { 'x-api-key': token },
    bearer(`${key}x`),
    bearer('cam_test_'),
    { ...bearer(key), 'x-api-key': key }
  ]) {
    const answer = await app.inject({ url: '/who', headers })
    t.equal(answer.statusCode, 401)
    t.equal(answer.headers['www-authenticate'], 'Bearer error="invalid_token"')
    t.match(answer.json(), { code: 'MARTY_CORE_CREDENTIAL_INVALID', detail: 'The credential is not valid' })
  }
  t.match(await app.guard.authenticate(key, { address: null, requestId: '1' }), { id: keyId })
  const principal = await app.guard.authenticate(key, { address: null, requestId: '1' })
  const session = await app.auth.sessions!.create(principal)
  t.equal((await app.inject({ url: '/who', headers: bearer(session.id) })).statusCode, 200)
  const rotated = await keys.rotate(keyId)
  await keys.revoke(keyId)
  t.equal((await app.inject({ url: '/who', headers: bearer(session.id) })).statusCode, 401, 'its session ends with it')
  t.equal(await app.guard.isAlive(principal), false)
  t.strictSame(
    events.map(event => event.action).filter(action => action.startsWith('api_key')),
    ['api_key.create', 'api_key.rotate', 'api_key.revoke']
  )
  for (const secret of [key.split('_')[3]!, rotated.key.split('_')[3]!]) t.notMatch(JSON.stringify(events), secret)
})
