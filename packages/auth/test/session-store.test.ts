import t, { type Test } from 'tap'
import { createSessionStore, type AuthStore, type SessionOptions, type SessionStore } from '@marty/auth'
import { ANONYMOUS } from '@marty/core'
import { openRedis } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'
import { principal } from './service.js'

/** Both places keep the same contract; what another replica did shows within a second, so what it did is waited for. */
function contract (t: Test, name: string, make: (options?: SessionOptions) => SessionStore): void {
  t.test(`${name}: nobody, an expired principal and a session get no session`, async t => {
    const sessions = make()
    await t.rejects(sessions.create(ANONYMOUS), { code: 'MARTY_AUTH_REQUEST_INVALID' })
    await t.rejects(sessions.create(principal('a', { expiresAt: Date.now() - 1 })), {
      code: 'MARTY_AUTH_REQUEST_INVALID'
    })
    await t.rejects(sessions.create(principal('a', { authenticatedBy: 'session' })), {
      code: 'MARTY_AUTH_REQUEST_INVALID'
    })
    t.strictSame(await sessions.list(), [])
  })

  t.test(`${name}: forged ids and keys name nothing`, async t => {
    const sessions = make()
    const { id } = await sessions.create(principal('alice'))
    const key = (await sessions.list())[0]!.key
    for (const forged of [
      '',
      'ses_',
      key,
      `ses_${key}`,
      `${id}=`,
      id.slice(0, -1),
      id.toUpperCase(),
      `ses_${'A'.repeat(43)}`,
      'ses_' + 'A'.repeat(1_000_000),
      '__proto__'
    ]) {
      t.equal(await sessions.get(forged), null)
      t.equal(await sessions.revoke(forged), false)
    }
    for (const forged of ['', id, 'all', 'of:x', '*', 'A'.repeat(43)]) {
      t.equal(await sessions.revokeByKey(forged), false)
    }
    t.match(await sessions.get(id), { id: 'alice', session: key })
  })

  t.test(`${name}: comes back as it was, named by the hash of its id`, async t => {
    const sessions = make()
    const source = principal('alice', {
      roles: ['viewer', 'ünï'],
      scopes: ['a:b'],
      claims: { jti: 'x', deep: [{ a: null }] }
    })
    const { id, expiresAt, csrfToken } = await sessions.create(source, {
      address: '2001:db8::1',
      userAgent: 'a\r\n\u001b[31m\u202e\u2028\ud83d' + '😀'.repeat(200)
    })
    t.equal(expiresAt, source.expiresAt)
    t.match(csrfToken, /^[A-Za-z0-9_-]{43}$/)
    const [info, ...rest] = await sessions.list()
    t.strictSame(rest, [])
    t.strictSame(await sessions.get(id), { ...source, session: info!.key, authenticatedBy: 'session', expiresAt })
    t.strictSame(
      { ...info, createdAt: 0, usedAt: 0, userAgent: '' },
      {
        key: info!.key,
        id: 'alice',
        kind: 'user',
        roles: source.roles,
        createdAt: 0,
        usedAt: 0,
        expiresAt,
        address: '2001:db8::1',
        userAgent: ''
      }
    )
    t.ok(info!.userAgent!.startsWith('a\uFFFD\uFFFD\uFFFD[31m\uFFFD\uFFFD\uFFFD😀'))
    t.ok(info!.userAgent!.length <= 200 && Buffer.from(info!.userAgent!).toString() === info!.userAgent)
    t.strictSame((await sessions.find(info!.key, true))?.source, source)
    t.notMatch(JSON.stringify(await sessions.list()), id)
    await sessions.create(principal('bob'))
    t.match(await sessions.list({ kind: 'user', id: 'bob' }), [{ id: 'bob', address: null, userAgent: null }])
  })

  t.test(`${name}: ends by id, by key, and everywhere at once`, async t => {
    const sessions = make()
    const [a, b, c, d] = await Promise.all(
      ['alice', 'alice', 'alice', 'bob'].map(async id => (await sessions.create(principal(id))).id)
    )
    await sessions.create(principal('alice', { kind: 'service' }))
    for (const id of [a, b, c, d]) t.ok(await sessions.get(id!))
    t.equal(await sessions.revoke(a!), true)
    t.equal(await sessions.get(a!), null, 'here at once')
    t.equal(await sessions.revoke(a!), false)
    const { session } = (await sessions.get(b!))!
    t.equal(await sessions.revokeByKey(session!), true)
    t.equal(await sessions.get(b!), null)
    t.equal(await sessions.revokeAll({ kind: 'user', id: 'alice' }), 1)
    t.equal(await sessions.get(c!), null)
    t.equal(await sessions.revokeAll({ kind: 'user', id: 'alice' }), 0)
    t.ok(await sessions.get(d!))
    t.match((await sessions.list()).map(({ kind, id }) => `${kind}:${id}`).sort(), ['service:alice', 'user:bob'])
  })

  t.test(`${name}: what is in flight while a session ends does not bring it back`, async t => {
    const sessions = make()
    const { id } = await sessions.create(principal('alice'))
    const early = Promise.resolve(sessions.get(id))
    await sessions.revoke(id)
    await early
    t.equal(await sessions.get(id), null)
  })

  t.test(`${name}: a new id ends the old one in one step`, async t => {
    const sessions = make({ absoluteSeconds: 600 })
    const { id, expiresAt } = await sessions.create(principal('alice'), { address: '192.0.2.1' })
    const back = (await sessions.get(id))!
    await t.rejects(sessions.renew(id, { ...back, id: 'bob' }), { code: 'MARTY_AUTH_REQUEST_INVALID' })
    await t.rejects(sessions.renew(id, { ...back, kind: 'service' }), { code: 'MARTY_AUTH_REQUEST_INVALID' })
    await t.rejects(sessions.renew(id, ANONYMOUS), { code: 'MARTY_AUTH_REQUEST_INVALID' })
    await t.rejects(sessions.renew(id, { ...back, expiresAt: 1 }), { code: 'MARTY_AUTH_REQUEST_INVALID' })
    await t.rejects(sessions.renew('ses_x', back), { code: 'MARTY_CORE_CREDENTIAL_INVALID' })
    t.ok(await sessions.get(id), 'a renewal that was refused has ended nothing')

    const renewals = await Promise.allSettled(
      Array.from({ length: 20 }, async () => await sessions.renew(id, { ...back, roles: ['admin'], scopes: ['s'] }))
    )
    const done = renewals.filter(one => one.status === 'fulfilled').map(one => one.value)
    t.equal(done.length, 1, 'of twenty at once')
    t.ok(
      renewals.every(
        one => one.status === 'fulfilled' || (one.reason as { code: string }).code === 'MARTY_CORE_CREDENTIAL_INVALID'
      )
    )
    const [renewed] = done
    t.equal(renewed!.expiresAt, expiresAt, 'it does not live longer for it')
    t.not(renewed!.id, id)
    t.equal(await sessions.get(id), null)
    const after = (await sessions.get(renewed!.id))!
    t.match(after, { id: 'alice', roles: ['admin'], scopes: ['s'] })
    t.match(await sessions.list(), [{ address: '192.0.2.1', roles: ['admin'] }])
    t.match(
      await sessions.find(after.session!, true),
      { source: { authenticatedBy: 'jwt', session: 'jti of alice' } },
      'it still lives by what signed in'
    )

    const anew = await sessions.renew(renewed!.id, principal('alice', { session: 'another jti', expiresAt: null }))
    t.ok(anew.expiresAt >= expiresAt, 'authenticated anew, it starts anew')
    t.match(await sessions.find((await sessions.get(anew.id))!.session!, true), { source: { session: 'another jti' } })
    const replaced = await sessions.create(principal('bob'), { replaces: anew.id })
    t.equal(await sessions.get(anew.id), null, 'also when somebody else signs in with it')
    t.ok(await sessions.create(principal('bob'), { replaces: anew.id }), 'what is over need not be replaced')
    t.ok(await sessions.create(principal('bob'), { replaces: '' }))
    t.ok(await sessions.get(replaced.id))
  })

  t.test(`${name}: of too many sessions the one used longest ago gives way`, async t => {
    const sessions = make({ maxPerPrincipal: 3 })
    const ids: string[] = []
    for (let i = 0; i < 3; i++) {
      ids.push((await sessions.create(principal('alice'))).id)
      await tick()
    }
    t.ok(await sessions.get(ids[0]!), 'used after the second')
    const last = await sessions.create(principal('alice'))
    await until(async () => await sessions.get(ids[1]!) === null, 'the second to be over', 5_000)
    t.ok(await sessions.get(ids[0]!))
    t.ok(await sessions.get(ids[2]!))
    t.ok(await sessions.get(last.id))
    await Promise.all(Array.from({ length: 30 }, async () => await sessions.create(principal('alice'))))
    t.equal((await sessions.list()).length, 3)
  })

  t.test(`${name}: a session nobody uses ends, and so does one that is old`, async t => {
    const sessions = make({ idleSeconds: 2, absoluteSeconds: 4 })
    const idle = await sessions.create(principal('alice'))
    const used = await sessions.create(principal('bob'))
    const key = (await sessions.list({ kind: 'user', id: 'alice' }))[0]!.key
    const { createdAt } = (await sessions.list({ kind: 'user', id: 'bob' }))[0]!
    let lastSeen = 0
    await until(async () => {
      const asked = Date.now()
      if (await sessions.get(used.id) !== null) lastSeen = asked
      await sessions.find(key, true)
      return (await sessions.list()).length === 0
    }, 'both to be over')
    t.ok(lastSeen > createdAt + 2_000, 'use has carried it over its idle limit')
    t.ok(lastSeen <= used.expiresAt, 'and nothing over its absolute one')
    t.equal(await sessions.get(idle.id), null)
    t.equal(await sessions.revokeAll({ kind: 'user', id: 'alice' }), 0)
    await sessions.create(principal('alice'))
    t.equal((await sessions.list()).length, 1)
  })
}

const tick = async (): Promise<void> => { await new Promise(resolve => setTimeout(resolve, 5)) }

t.test('in memory', async t => {
  contract(t, 'memory', options => createSessionStore('memory', options))
})

t.test('in Redis', async t => {
  const port = await freePort()
  const server = await startRedis(port)
  const redis = openRedis({ url: `redis://127.0.0.1:${port}`, commandTimeoutMs: 2_000 })
  t.teardown(async () => {
    await redis.close()
    await server.stop()
  })
  await redis.ready(5_000)
  let count = 0
  const place = (): AuthStore => ({ redis: redis.client, prefix: `test:${++count}` })
  contract(t, 'Redis', options => createSessionStore(place(), options))

  t.test('Redis: keeps no id and no plain name of anybody in a key, and everything ends by itself', async t => {
    const store = place()
    const sessions = createSessionStore(store, { absoluteSeconds: 60 })
    const { id } = await sessions.create(principal('mallory:*{}\n', { expiresAt: null }))
    await sessions.create(principal('bob', { expiresAt: Date.now() + 5_000 }))
    await sessions.get(id)
    const keys = (await redis.client.keys('*')).filter(key => key.includes(`test:${count}`))
    t.equal(keys.length, 5, 'two sessions, two owners, one index')
    for (const key of keys) {
      t.ok(key.startsWith(`{test:${count}}:session:`), 'all in one slot of a cluster')
      t.notMatch(key, /mallory|bob|ses_/)
      const left = await redis.client.pttl(key)
      t.ok(left > 0 && left <= 60_000, `${key} ends in ${left} ms`)
      if (await redis.client.type(key) === 'hash') t.notMatch(JSON.stringify(await redis.client.hgetall(key)), id)
    }
  })

  t.test('Redis: a busy session is read and touched at most once a second, and a flood of requests for it once at a time', async t => {
    const sessions = createSessionStore(place())
    const { id } = await sessions.create(principal('alice'))
    const key = (await sessions.get(id))!.session!
    const commands = async (): Promise<number> => {
      const stats = await redis.client.info('commandstats')
      return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0)
    }
    const [before, since] = [await commands(), performance.now()]
    await Promise.all(
      Array.from({ length: 1_000 }, async () => {
        await sessions.get(id)
      })
    )
    for (let i = 0; i < 20; i++) {
      await sessions.get(id)
      await sessions.find(key, true)
    }
    const seconds = Math.ceil((performance.now() - since) / 1_000)
    const asked = (await commands()) - before
    t.ok(asked <= seconds + 1, `${asked} in ${seconds} s`)
  })

  t.test('Redis: lists more sessions than one step reads, and an index that was lost is made again by use', async t => {
    const store = place() as { prefix: string }
    const sessions = createSessionStore(store as AuthStore, { maxPerPrincipal: 1_000 })
    await Promise.all(
      Array.from({ length: 250 }, async (_, i) => {
        await sessions.create(principal(`user ${i % 2}`))
      })
    )
    t.equal((await sessions.list()).length, 250)
    t.equal((await sessions.list({ kind: 'user', id: 'user 1' })).length, 125)
    const { id } = await sessions.create(principal('alice'))
    const indexes = (await redis.client.keys(`{${store.prefix}}:session:*`)).filter(key => /:all$|:of:/.test(key))
    await redis.client.del(indexes)
    t.strictSame(await sessions.list(), [])
    await sessions.get(id)
    t.match(await sessions.list(), [{ id: 'alice' }])
    t.equal(await sessions.revokeAll({ kind: 'user', id: 'alice' }), 1)
  })

  t.test('Redis: what lost its session while it was in an index is the first to give way', async t => {
    const store = place() as { prefix: string }
    const sessions = createSessionStore(store as AuthStore, { maxPerPrincipal: 2 })
    const first = await sessions.create(principal('alice'))
    const second = await sessions.create(principal('alice'))
    const { session } = (await sessions.get(second.id))!
    await redis.client.del(`{${store.prefix}}:session:${session!}`)
    await sessions.create(principal('alice'))
    t.ok(await sessions.get(first.id))
    t.equal((await sessions.list()).length, 2)
  })
})
