import t, { type Test } from 'tap'
import Fastify from 'fastify'
import fc from 'fast-check'
import {
  auth,
  createRefreshTokens,
  createRevocations,
  type RefreshGrant,
  type RefreshTokens,
  type RefreshTokensOptions,
  type RedisAuthStore,
  type ResolvedAuthStore,
  type Revocations
} from '@marty/auth'
import { ANONYMOUS, useGuard, type SecurityEvent } from '@marty/core'
import { until } from '@marty/testing'
import { secretFor, TOKENS } from '@marty/testing/tokens'
import { insist, storeOf, testRedis } from './state-store.js'

const REFUSED = { code: 'MARTY_CORE_CREDENTIAL_INVALID', statusCode: 401 }
const secret = Buffer.from(secretFor('refresh tokens'))
const grantOf = (subject: string): RefreshGrant => ({
  subject,
  kind: 'user',
  roles: ['viewer'],
  scopes: ['cameras'],
  clientId: 'web',
  source: { ...ANONYMOUS, id: subject, kind: 'user', authenticatedBy: 'apiKey', session: 'key 1' }
})

const redis = await testRedis(t)
// What a busy machine answers late would be asked twice.
const connection = await redis.connect({ commandTimeoutMs: 5_000 })

interface Bench {
  readonly store: ResolvedAuthStore
  readonly refresh: RefreshTokens
  readonly revocations: Revocations
  readonly reuses: string[]
  /** Lets time pass: for the memory store by its clock, in Redis by making what is there older. */
  pass (seconds: number): Promise<void>
}

async function bench (
  t: Test,
  kind: 'memory' | 'redis',
  options: Partial<RefreshTokensOptions> = {},
  client = connection
): Promise<Bench> {
  let offset = 0
  const store: ResolvedAuthStore = kind === 'memory' ? kind : storeOf(client)
  const revocations = createRevocations(store, { maxLifetimeSeconds: 3_600 })
  t.teardown(() => { revocations.close() })
  await revocations.start()
  const reuses: string[] = []
  const refresh = createRefreshTokens(store, {
    secret,
    revocations,
    idleSeconds: 102,
    absoluteSeconds: 302,
    graceSeconds: 10,
    onReuse: sid => { reuses.push(sid) },
    clock: () => Date.now() + offset,
    ...options
  })
  return {
    store,
    refresh,
    revocations,
    reuses,
    async pass (seconds) {
      offset += seconds * 1000
      if (store !== 'memory') await age(store.prefix, seconds * 1000)
    }
  }
}

async function age (prefix: string, ms: number): Promise<void> {
  const script = `
    for _, key in ipairs(redis.call('KEYS', '{' .. ARGV[1] .. '}:refresh:' .. string.rep('?', 22))) do
      for _, field in ipairs({ 'ends', 'rotated' }) do
        if redis.call('HEXISTS', key, field) == 1 then redis.call('HINCRBY', key, field, -ARGV[2]) end
      end
      redis.call('PEXPIRE', key, redis.call('PTTL', key) - ARGV[2])
    end`
  await connection.client.eval(script, 0, prefix, ms)
}

const A64 = 'A'.repeat(64)
const malformed = [
  '', 'ref_', `ref_${A64}`, `ref_${A64}AA`, `REF_${A64}A`, `ref_${A64}=`, `ref_${A64}\n`, ` ref_${A64}A`,
  `ref_${A64}é`, `ref_${A64}\0`, `ref_${A64}A\n`, `ses_${A64}A`, 'A'.repeat(1_000_000), `ref_${'*'.repeat(65)}`,
  `ref_${A64}A`, undefined, null, 5, {}, [`ref_${A64}A`]
] as string[]

for (const kind of ['memory', 'redis'] as const) {
  t.test(`${kind}: any other text is refused, and ends nothing`, async t => {
    const { refresh, reuses } = await bench(t, kind)
    const { token, sid } = await refresh.issue(grantOf('alice'))
    for (const text of [
      ...malformed,
      sid,
      `ref_${sid}${token.slice(26)}`,
      `ref_${sid}${'A'.repeat(43)}`,
      token.slice(0, -1),
      `${token}A`
    ]) {
      await t.rejects(refresh.rotate(text), REFUSED)
      t.equal(await refresh.inspect(text), null)
      t.equal(await refresh.revoke(text), null)
    }
    for (const text of [...malformed, token, token.slice(4, 26)]) t.equal(await refresh.revokeFamily(text), false)
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^ref_[\w-]{65}$/)), async text => {
        await refresh.rotate(text).then(() => { throw new Error('accepted') }, (error: { code: string }) => {
          if (error.code !== REFUSED.code && error.code !== 'MARTY_AUTH_STORE_UNAVAILABLE') throw error
        })
      }), { numRuns: 50 })
    t.ok(await refresh.inspect(token))
    t.strictSame(reuses, [])
  })

  t.test(`${kind}: a token is good once, and its successor is of the same family and grant`, async t => {
    const { refresh, reuses } = await bench(t, kind)
    const first = await refresh.issue(grantOf('alice'))
    t.match(first.token, /^ref_[\w-]{65}$/)
    t.match(first.sid, /^[\w-]{22}$/)
    t.ok(Math.abs(first.expiresAt - Date.now() - 102_000) < 10_000)
    t.notMatch(first.token, first.sid)
    t.match(await refresh.inspect(first.token), { sid: first.sid, grant: grantOf('alice'), expiresAt: Number })
    const second = await refresh.rotate(first.token)
    t.match(second, { sid: first.sid, grant: grantOf('alice'), replayed: false })
    t.equal(second.token.slice(0, 26), first.token.slice(0, 26))
    t.not(second.token, first.token)
    t.equal(await refresh.inspect(first.token), null, 'used up')
    t.ok(await refresh.inspect(second.token))
    t.not((await refresh.rotate(second.token)).token, second.token)
    t.strictSame(reuses, [])
  })

  t.test(`${kind}: who asks again in time gets the same successor, as long as that is unused`, async t => {
    const { refresh, pass, reuses } = await bench(t, kind)
    const first = await refresh.issue(grantOf('alice'))
    const second = await refresh.rotate(first.token)
    await pass(8)
    const again = await refresh.rotate(first.token)
    t.equal(again.token, second.token)
    t.equal(again.replayed, true)
    t.ok(
      Math.abs(again.expiresAt + (kind === 'memory' ? 0 : 8_000) - second.expiresAt) < 5_000,
      'a replay prolongs nothing'
    )
    const third = await refresh.rotate(second.token)
    await t.rejects(refresh.rotate(first.token), REFUSED, 'the successor was used: this is somebody else')
    t.strictSame(reuses, [first.sid])
    await t.rejects(refresh.rotate(third.token), REFUSED, 'the family has ended')
    t.strictSame(reuses, [first.sid], 'told once')
  })

  t.test(`${kind}: reuse ends the family and its access tokens, whoever comes`, async t => {
    for (const present of [
      (first: string) => first,
      (_: string, second: string) => second.slice(0, -1) + (second.endsWith('A') ? 'B' : 'A'),
      (first: string) => first.slice(0, 26) + 'A'.repeat(43)
    ]) {
      const { refresh, revocations, pass, reuses } = await bench(t, kind)
      const first = await refresh.issue(grantOf('alice'))
      const other = await refresh.issue(grantOf('alice'))
      const second = await refresh.rotate(first.token)
      await pass(12)
      await Promise.all(Array.from({ length: 20 }, async () => {
        await t.rejects(refresh.rotate(present(first.token, second.token)), REFUSED)
      }))
      t.strictSame(reuses, [first.sid])
      const now = Math.floor(Date.now() / 1000)
      t.equal(revocations.isRevoked({ jti: 'x', sub: 'alice', iat: now, sid: first.sid }), true)
      await t.rejects(refresh.rotate(second.token), REFUSED)
      t.equal(await refresh.inspect(second.token), null)
      t.equal(await refresh.revoke(second.token), null)
      t.equal(await refresh.revokeFamily(first.sid), false)
      t.equal(revocations.isRevoked({ jti: 'x', sub: 'alice', iat: now, sid: other.sid }), false)
      t.ok(await refresh.rotate(other.token), 'other families go on')
    }
  })

  t.test(`${kind}: with no grace, who asks twice is out`, async t => {
    const { refresh, reuses } = await bench(t, kind, { graceSeconds: 0 })
    const first = await refresh.issue(grantOf('alice'))
    await refresh.rotate(first.token)
    await t.rejects(refresh.rotate(first.token), REFUSED)
    t.strictSame(reuses, [first.sid])
  })

  t.test(`${kind}: a family of another store is no family`, async t => {
    const one = await bench(t, kind)
    const other = await bench(t, kind)
    const { token } = await other.refresh.issue(grantOf('alice'))
    await t.rejects(one.refresh.rotate(token), REFUSED)
    t.ok(await other.refresh.rotate(token))
  })

  t.test(`${kind}: revoked by any of its tokens, or by its name; its access tokens with it`, async t => {
    const { refresh, revocations, reuses } = await bench(t, kind)
    const isOut = (sid: string): boolean => revocations.isRevoked({ sub: 'alice', iat: 1, sid })
    const first = await refresh.issue(grantOf('alice'))
    const second = await refresh.rotate(first.token)
    const third = await refresh.rotate(second.token)
    t.match(await refresh.revoke(first.token), { sid: first.sid, grant: grantOf('alice') })
    t.equal(isOut(first.sid), true)
    for (const { token } of [first, second, third]) await t.rejects(refresh.rotate(token), REFUSED)
    const named = await refresh.issue(grantOf('alice'))
    t.equal(isOut(named.sid), false)
    t.equal(await refresh.revokeFamily(named.sid), true)
    t.equal(isOut(named.sid), true)
    await t.rejects(refresh.rotate(named.token), REFUSED)
    t.equal(await refresh.revokeFamily(named.sid), false)
    t.strictSame(reuses, [], 'that was no reuse')
  })

  t.test(`${kind}: who was revoked, as a subject or a family, signs in anew`, async t => {
    const { refresh, revocations } = await bench(t, kind)
    const old = await refresh.issue(grantOf('alice'))
    const bob = await refresh.issue(grantOf('bob'))
    await revocations.revokeSubject('alice')
    t.equal(await refresh.inspect(old.token), null)
    await t.rejects(refresh.rotate(old.token), REFUSED)
    t.equal(await refresh.revokeFamily(old.sid), false, 'it has ended')
    t.ok(await refresh.rotate(bob.token))
    const anew = await refresh.issue(grantOf('alice'))
    t.ok(await refresh.rotate(anew.token), 'in the same second')
    await revocations.revokeFamily(anew.sid)
    await t.rejects(refresh.rotate(anew.token), REFUSED)
  })

  t.test(`${kind}: a family whose end was cut short is finished by whoever comes next`, async t => {
    for (const [way, told] of [['reuse', 1], ['revoke', 0]] as const) {
      let fails = true
      const store = kind === 'memory' ? kind : storeOf(connection)
      const real = createRevocations(store, { maxLifetimeSeconds: 60 })
      t.teardown(() => { real.close() })
      await real.start()
      const revocations: RefreshTokensOptions['revocations'] = {
        isRevoked: claims => real.isRevoked(claims),
        earliestIssue: subject => real.earliestIssue(subject),
        async revokeFamily (sid) {
          if (fails) throw new Error('cut short')
          await real.revokeFamily(sid)
        }
      }
      const reuses: string[] = []
      const refresh = createRefreshTokens(store, {
        secret,
        revocations,
        idleSeconds: 100,
        absoluteSeconds: 100,
        graceSeconds: 0,
        onReuse: sid => {
          reuses.push(sid)
        }
      })
      const first = await refresh.issue(grantOf('alice'))
      const second = await refresh.rotate(first.token)
      await t.rejects(way === 'reuse' ? refresh.rotate(first.token) : refresh.revoke(first.token), {
        message: 'cut short'
      })
      t.equal(await refresh.inspect(second.token), null, 'none of its tokens is good')
      await t.rejects(refresh.rotate(second.token), { message: 'cut short' })
      fails = false
      await t.rejects(refresh.rotate(second.token), REFUSED)
      t.equal(real.isRevoked({ sub: 'alice', iat: 1, sid: first.sid }), true)
      t.equal(reuses.length, told)
      t.equal(await refresh.revokeFamily(first.sid), false)
    }
  })

  t.test(`${kind}: a hundred at once make one lineage, and nobody is refused`, async t => {
    const { refresh, reuses } = await bench(t, kind)
    const { token } = await refresh.issue(grantOf('alice'))
    const answers = await Promise.all(Array.from({ length: 100 }, async () => await refresh.rotate(token)))
    t.equal(new Set(answers.map(answer => answer.token)).size, 1)
    t.ok(answers.filter(answer => !answer.replayed).length <= 1)
    t.ok(await refresh.rotate(answers[0]!.token))
    t.strictSame(reuses, [])
  })

  t.test(`${kind}: any sequence of events does what the model says`, async t => {
    const { refresh, revocations, pass, reuses } = await bench(t, kind)
    const event = fc.oneof(
      { weight: 5, arbitrary: fc.record({ do: fc.constant('rotate' as const), back: fc.nat(3) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('pass' as const), seconds: fc.constantFrom(4, 8, 40, 60) }) },
      {
        weight: 1,
        arbitrary: fc.record({
          do: fc.constantFrom('revoke' as const, 'forge' as const, 'inspect' as const),
          back: fc.nat(3)
        })
      }
    )
    await fc.assert(fc.asyncProperty(fc.array(event, { maxLength: 14 }), async events => {
      const family = await refresh.issue(grantOf('alice'))
      const generations = [family.token]
      const model = { age: 0, sinceRotation: 0, isOver: false }
      const before = reuses.length
      let expectedReuses = 0
      for (const event of events) {
        if (event.do === 'pass') {
          await pass(event.seconds)
          model.age += event.seconds
          model.sinceRotation += event.seconds
          if (model.sinceRotation > 102 || model.age > 302) model.isOver = true
          continue
        }
        const last = generations.length - 1
        const index = Math.max(0, last - event.back)
        const token = generations[index]!
        if (event.do === 'revoke') {
          equal((await refresh.revoke(token)) !== null, !model.isOver, 'revoke')
          model.isOver = true
        } else if (event.do === 'inspect') {
          equal((await refresh.inspect(token)) !== null, !model.isOver && index === last, 'inspect')
        } else {
          const presented =
            event.do === 'forge' ? token.slice(0, 26) + token.slice(26).split('').reverse().join('') : token
          const isReplay = event.do === 'rotate' && index === last - 1 && model.sinceRotation < 10
          const answer = await refresh.rotate(presented).catch((error: { code: string }) => error.code)
          if (model.isOver || event.do === 'forge' || (index !== last && !isReplay)) {
            equal(answer, REFUSED.code, 'refusal')
            if (!model.isOver) expectedReuses++
            model.isOver = true
          } else if (typeof answer === 'string') {
            throw new Error(`refused: ${answer}`)
          } else if (isReplay) {
            equal(answer.token, generations[last], 'replay')
          } else {
            equal(generations.includes(answer.token), false, 'a new token')
            generations.push(answer.token)
            model.sinceRotation = 0
          }
        }
        equal(reuses.length - before, expectedReuses, 'reuses')
      }
      if (expectedReuses === 1) {
        equal(revocations.isRevoked({ sub: 'x', iat: 0, sid: family.sid }), true, 'access tokens')
      }
    }), { numRuns: kind === 'memory' ? 300 : 60 })
  })
}

t.test('memory: bounded; families that are over make room, others are not forgotten', async t => {
  const { refresh, pass } = await bench(t, 'memory', { maxFamilies: 2 })
  const first = await refresh.issue(grantOf('a'))
  await pass(60)
  const second = await refresh.issue(grantOf('b'))
  await t.rejects(refresh.issue(grantOf('c')), {
    code: 'MARTY_AUTH_CAPACITY_EXCEEDED',
    statusCode: 503,
    headers: { 'retry-after': '60' }
  })
  t.ok(await refresh.inspect(first.token))
  await pass(44)
  await refresh.issue(grantOf('c'))
  t.equal(await refresh.inspect(first.token), null)
  t.ok(await refresh.inspect(second.token))
})

t.test('the plugin ends a family with its refresh tokens, and warns when the store does not answer', async t => {
  const { refresh, store } = await bench(t, 'redis')
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } } })
  const events: SecurityEvent[] = []
  useGuard(app).addSink(event => { events.push(event) })
  await app.register(auth, { ...TOKENS, store: store as RedisAuthStore, refresh: { secret } })
  t.throws(
    () => app.auth.tokens.verify(app.auth.tokens.issue({ subject: 'alice' }).token),
    { code: 'MARTY_AUTH_STORE_UNAVAILABLE' },
    'nobody is let in before revocations are known'
  )
  await app.ready()
  const { sid, token } = await refresh.issue(grantOf('alice'))
  const access = app.jwt.sign({ sub: 'alice', sid })
  t.match(app.auth.tokens.verify(access), { sid })
  await app.auth.tokens.revokeFamily(sid, Date.now() + 900_000)
  t.throws(() => app.auth.tokens.verify(access), REFUSED)
  await t.rejects(refresh.rotate(token), REFUSED)
  await app.auth.tokens.revokeSubject('bob')
  t.match(events.map(({ action, object }) => [action, object]).slice(1), [
    ['token.revoke_family', sid],
    ['token.revoke_subject', 'bob']
  ])
  t.notMatch(JSON.stringify(events), token.slice(4, 26))
  redis.server.child.kill('SIGSTOP')
  await until(() => lines.some(line => line.includes('revocations of other replicas')), 'a warning', 20_000)
  redis.server.child.kill('SIGCONT')
  await app.close()
})

t.test('redis: who derives other successors gives none for a token that has one', async t => {
  const { refresh, revocations, store } = await bench(t, 'redis')
  const first = await refresh.issue(grantOf('alice'))
  const second = await refresh.rotate(first.token)
  const changed = createRefreshTokens(store, {
    secret: Buffer.alloc(32),
    revocations,
    idleSeconds: 60,
    absoluteSeconds: 60,
    graceSeconds: 10,
    onReuse: () => {}
  })
  await t.rejects(changed.rotate(first.token), REFUSED)
  await t.rejects(refresh.rotate(second.token), REFUSED, 'never a second lineage')
})

t.test('redis: at rest there is nothing that could be used, and everything goes', async t => {
  const { refresh } = await bench(t, 'redis')
  const first = await refresh.issue(grantOf('alice'))
  const second = await refresh.rotate(first.token)
  const key = (await connection.client.keys(`*:refresh:${first.sid}`))[0]!
  const record = JSON.stringify(await connection.client.hgetall(key))
  for (const text of [first.token.slice(4, 26), first.token.slice(26), second.token.slice(26)]) t.notMatch(record, text)
  const ttl = await connection.client.pttl(key)
  t.ok(ttl > 0 && ttl <= 102_000)
})

t.test('redis: a store that does not answer is 503; what was sent before may yet be done, and can be asked for again', async t => {
  const { refresh } = await bench(t, 'redis', {}, await redis.connect())
  const unavailable = { code: 'MARTY_AUTH_STORE_UNAVAILABLE', statusCode: 503 }
  const first = await insist(async () => await refresh.issue(grantOf('alice')))
  const other = await insist(async () => await refresh.issue(grantOf('alice')))
  redis.server.child.kill('SIGSTOP')
  try {
    await t.rejects(refresh.rotate(first.token), unavailable)
    await t.rejects(refresh.issue(grantOf('bob')), unavailable)
    await t.rejects(refresh.revoke(other.token), unavailable)
    await t.rejects(refresh.inspect(first.token), unavailable)
    await t.rejects(refresh.revokeFamily(other.sid), unavailable)
  } finally {
    redis.server.child.kill('SIGCONT')
  }
  const second = await insist(async () => await refresh.rotate(first.token))
  t.ok(await insist(async () => await refresh.rotate(second.token)), 'the only lineage')
  await t.rejects(
    insist(async () => await refresh.rotate(other.token)),
    REFUSED,
    'the end got through'
  )
})

t.test('redis: a token is not used up for nothing while revocations are not known', async t => {
  const { refresh, store } = await bench(t, 'redis')
  const first = await refresh.issue(grantOf('alice'))
  const blind = createRefreshTokens(store, {
    secret,
    revocations: createRevocations(store, { maxLifetimeSeconds: 60 }),
    idleSeconds: 60,
    absoluteSeconds: 60,
    graceSeconds: 10,
    onReuse: () => {}
  })
  await t.rejects(blind.rotate(first.token), { code: 'MARTY_AUTH_STORE_UNAVAILABLE' })
  t.equal((await refresh.rotate(first.token)).replayed, false)
})

function equal (actual: unknown, wanted: unknown, what: string): void {
  if (actual !== wanted) throw new Error(`${what}: ${String(actual)} instead of ${String(wanted)}`)
}
