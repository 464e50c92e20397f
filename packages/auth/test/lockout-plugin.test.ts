import t from 'tap'
import { Writable } from 'node:stream'
import Fastify, { type LightMyRequestResponse } from 'fastify'
import { auth, createLockout, type AuthOptions } from '@marty/auth'
import type { SecurityEvent } from '@marty/core'
import { openRedis } from '@marty/redis'
import { freePort } from '@marty/testing'
import { TOKENS } from '@marty/testing/tokens'
import { build } from './service.js'

t.test('bad options stop the start and name the field', async t => {
  const bad: Array<[unknown, RegExp]> = [
    [true, /"lockout" must be false or an object \{ maxFailures, windowSeconds, lockSeconds \}, not true/],
    [null, /"lockout" must be false or an object \{ maxFailures, windowSeconds, lockSeconds \}, not null/],
    [{ maxFailure: 3 }, /"lockout\.maxFailure" is not known; did you mean "maxFailures"\?/],
    [{ zzz: 3 }, /"lockout\.zzz" is not known; known are maxFailures, windowSeconds, lockSeconds/],
    [{ maxFailures: 0 }, /"lockout\.maxFailures" must be an integer from 1 to 100/],
    [{ windowSeconds: '900' }, /"lockout\.windowSeconds" must be an integer from 1 to 86400/],
    [{ lockSeconds: Infinity }, /"lockout\.lockSeconds" must be an integer from 1 to 86400/]
  ]
  for (const [lockout, message] of bad) {
    await t.rejects(build(t, { lockout } as Partial<AuthOptions>), { code: 'MARTY_AUTH_OPT_INVALID', message })
  }
  t.throws(() => createLockout('memory', { maxFailures: 101 }), { code: 'MARTY_AUTH_OPT_INVALID' })
  t.throws(() => createLockout('redis' as 'memory'), { code: 'MARTY_AUTH_OPT_INVALID' })
})

t.test('on unless it is switched off', async t => {
  t.equal((await build(t, { lockout: false })).auth.lockout, null)
  const app = await build(t, { lockout: { maxFailures: 1 } })
  void app.auth.lockout!.fail('a', null)
  t.throws(() => { void app.auth.lockout!.check('a', null) }, { code: 'MARTY_AUTH_LOCKED' })
  await app.close()
  t.doesNotThrow(() => { void app.auth.lockout!.check('a', null) }, 'closing forgets')
  t.not((await build(t)).auth.lockout, null)
})

t.test('a login guarded by it answers 429 over HTTP, and tells the sinks once', async t => {
  const events: SecurityEvent[] = []
  const app = await build(t, { lockout: { maxFailures: 2 } }, events)
  app.post<{ Body: { name: string; password: string } }>(
    '/login',
    { config: { security: { public: true } } },
    async request => {
      const { name, password } = request.body
      await app.auth.lockout!.check(name, request.ip)
      if (password !== 'right') {
        await app.auth.lockout!.fail(name, request.ip)
        return 'wrong'
      }
      await app.auth.lockout!.succeed(name, request.ip)
      return 'welcome'
    }
  )
  const login = async (password: string, name = 'alice'): Promise<LightMyRequestResponse> =>
    await app.inject({ method: 'POST', url: '/login', payload: { name, password } })
  t.equal((await login('wrong')).body, 'wrong')
  t.equal((await login('right')).body, 'welcome')
  await login('wrong')
  t.equal((await login('wrong')).body, 'wrong')
  const early = await login('right')
  t.equal(early.statusCode, 429)
  const retryAfter = Number(early.headers['retry-after'])
  t.ok(retryAfter > 800 && retryAfter <= 900)
  t.match(early.json(), {
    type: 'urn:marty:error:MARTY_AUTH_LOCKED',
    status: 429,
    code: 'MARTY_AUTH_LOCKED',
    retry_after_ms: Number
  })
  t.equal((await login('right', 'bob')).body, 'welcome')

  const name = 'x'.repeat(1_000)
  for (let i = 0; i < 7; i++) await app.auth.lockout!.fail(name, '192.0.2.9')
  const locks = events.filter(event => event.action === 'account.lock' && event.object !== 'alice')
  t.equal(locks.length, 1)
  t.match(locks, [
    {
      type: 'authentication',
      outcome: 'denied',
      reason: 'MARTY_AUTH_LOCKED',
      principal: { kind: 'anonymous' },
      address: '192.0.2.9',
      object: 'x'.repeat(256),
      details: { locked_until: Number }
    }
  ])
})

t.test('an outage is logged', async t => {
  const lines: string[] = []
  const stream = new Writable({ write (line, encoding, done) { lines.push(String(line)); done() } })
  const connection = openRedis({ port: await freePort() })
  const app = Fastify({ logger: { level: 'warn', stream } })
  t.teardown(async () => { await app.close(); await connection.close() })
  await app.register(auth, { ...TOKENS, store: { redis: connection.client } })
  for (let i = 0; i < 5; i++) await app.auth.lockout!.fail('alice', '192.0.2.1')
  await t.rejects(Promise.resolve(app.auth.lockout!.check('alice', '192.0.2.1')), { code: 'MARTY_AUTH_LOCKED' })
  t.equal(lines.filter(line => line.includes('the store of failed attempts does not respond')).length, 1)
  t.notMatch(lines.join(''), /alice/)
})
