import t from 'tap'
import {
  openRedis, RedisOptionInvalid, RedisUnavailable, type RedisConnection, type RedisHealth, type RedisOptions
} from '@marty/redis'
import { freePort } from '@marty/testing'

// The compiler checks this file; running it shows only that the right uses work.

t.test('the options have one of four forms', async t => {
  const forms: RedisOptions[] = [
    { url: 'redis://127.0.0.1:6379/0', commandTimeoutMs: 100 },
    { host: '127.0.0.1', port: 6379, db: 1, password: 'secret' },
    { sentinels: [{ host: '127.0.0.1', port: 26379 }], name: 'main' },
    { cluster: [{ host: '127.0.0.1', port: 7000 }], tls: true }
  ]

  // @ts-expect-error a port is a number
  const port: RedisOptions = { host: '127.0.0.1', port: '6379' }
  // @ts-expect-error sentinels know several masters, so the name is required
  const nameless: RedisOptions = { sentinels: [{ host: '127.0.0.1', port: 26379 }] }
  // @ts-expect-error the unit is part of the name
  const unit: RedisOptions = { url: 'redis://127.0.0.1', commandTimeout: 100 }
  // @ts-expect-error TLS is on or configured; leave it out to turn it off
  const tls: RedisOptions = { url: 'redis://127.0.0.1', tls: false }
  t.equal([...forms, port, nameless, unit, tls].length, 8)
})

t.test('a connection and its health have types', async t => {
  const redis: RedisConnection = openRedis({ host: '127.0.0.1', port: await freePort() })
  t.teardown(() => redis.close())
  const health: RedisHealth = redis.health()
  const lastError: string | null = health.details.lastError
  t.ok(lastError === null || lastError !== '')

  // @ts-expect-error a wait is bounded
  await t.rejects(redis.ready())
  // @ts-expect-error the client is not replaced
  const replace = (): void => { redis.client = openRedis({}).client }
  t.type(replace, 'function')
})

t.test('errors have literal codes', async t => {
  const invalid: { code: 'MARTY_REDIS_OPT_INVALID' } = new RedisOptionInvalid('url', 'redis option "url" names no host')
  const unavailable: { code: 'MARTY_REDIS_UNAVAILABLE' } = new RedisUnavailable('no')
  t.same([invalid.code, unavailable.code], ['MARTY_REDIS_OPT_INVALID', 'MARTY_REDIS_UNAVAILABLE'])
})
