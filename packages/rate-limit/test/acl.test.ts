import t from 'tap'
import { readFile } from 'node:fs/promises'
import Fastify from 'fastify'
import { createInstanceCount, rateLimit } from '@marty/rate-limit'
import { openRedis } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'
import { ask } from '@marty/testing/redis-topology'

t.test('the ACL user of the README may do all that a limiter does', async t => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const rights = /and `(\+eval [^`]*)`/.exec(readme)![1]!.split(/\s+/)
  const { port, stop } = await startRedis(await freePort())
  t.teardown(() => stop())
  await ask(port, async client => {
    await client.call(
      'ACL',
      'SETUSER',
      'limits',
      'on',
      '>secret',
      '~{marty:limit}:*',
      '-@all',
      '+info',
      '+cluster|slots',
      ...rights
    )
  })
  const redis = openRedis({ port, username: 'limits', password: 'secret', commandTimeoutMs: 5_000 })
  t.teardown(() => redis.close())
  await redis.ready(10_000)

  const count = createInstanceCount({
    redis: redis.client,
    onFailure: error => {
      t.fail(String(error))
    }
  })
  count.start()
  await until(() => count.current() === 1, 'the instance to be counted')
  await count.close()

  const app = Fastify()
  t.teardown(() => app.close())
  const rules = {
    small: { limit: 2, windowMs: 60_000, by: 'address', burst: { limit: 2, windowMs: 1_000 } },
    large: { limit: 1_000, windowMs: 60_000, by: 'global', lease: true }
  } as const
  await app.register(rateLimit, { rules, store: { redis: redis.client, onFailure: 'closed', deadlineMs: 5_000 } })
  await app.ready()
  const who = { address: '192.0.2.1' }
  for (let i = 0; i < 50; i++) t.match(await app.limiter.check(who, ['large']), { allowed: true, degraded: false })
  for (let i = 0; i < 3; i++) t.match(await app.limiter.check(who, ['small']), { allowed: i < 2, degraded: false })
  await until(async () => (await app.limiter.top()).length > 0, 'the refusal to be reported')
  await app.limiter.peek(who, ['small', 'large'])
  await app.limiter.reset(who, ['small', 'large'])
})
