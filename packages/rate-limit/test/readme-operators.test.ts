import t from 'tap'
import { readFile } from 'node:fs/promises'
import { ANONYMOUS, useGuard } from '@marty/core'
import { createLimitAdmin, rateLimit, type Refused } from '@marty/rate-limit'
import { openRedis } from '@marty/redis'
import Fastify from 'fastify'
import { freePort, startRedis, until } from '@marty/testing'

const AsyncFunction = (async () => {}).constructor as new (...text: string[]) => (...args: unknown[]) => Promise<void>

t.test('what the README says to operators runs', async t => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const [section = ''] = /^## Operators\n[\s\S]*?(?=^## )/m.exec(readme) ?? []
  const [overRedis = '', inside = '', route = '', ...more] = [...section.matchAll(/```js\n([\s\S]*?)```/g)].map(([, snippet]) => snippet!)
  t.strictSame(more, [])

  const server = await startRedis(await freePort())
  t.teardown(() => server.stop())
  const connection = openRedis({ url: `redis://127.0.0.1:${server.port}`, commandTimeoutMs: 2_000 })
  t.teardown(() => connection.close())
  await connection.ready(10_000)
  const redis = connection.client
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(rateLimit, { rules: { login: { limit: 1, windowMs: 60_000, by: 'address' } }, store: { redis, deadlineMs: 2_000 } })
  useGuard(app).addAuthenticator({
    method: 'jwt',
    find: ({ headers }) => headers.authorization ?? null,
    accepts: () => true,
    authenticate: async () => ({ ...ANONYMOUS, kind: 'service', id: 'prometheus', authenticatedBy: 'jwt' })
  })
  useGuard(app).addCheck({ name: 'permissions', stage: 'authorize', keys: ['permission'], compile: () => null })
  await new AsyncFunction('app', route)(app)
  await app.ready()
  const address = '203.0.113.7'
  const refuse = async (): Promise<void> => { for (let i = 0; i < 3; i++) await app.limiter.check({ address }, ['login']) }

  const [imported = '', ...lines] = overRedis.split('\n')
  t.equal(imported, "import { createLimitAdmin } from '@marty/rate-limit'")
  await refuse()
  await until(async () => (await app.limiter.top()).length === 1, 'the refusal to be told of')
  await new AsyncFunction('createLimitAdmin', 'redis', lines.join('\n'))(createLimitAdmin, redis)
  await until(async () => (await app.limiter.check({ address }, ['login'])).allowed, 'the reset to reach the memory of the process')
  await refuse()
  await new AsyncFunction('app', 'address', inside)(app, address)
  t.match(await app.limiter.peek({ address }, ['login']), { allowed: true })
  t.strictSame(await app.limiter.top() satisfies readonly Refused[], [])

  const { headers, body } = await app.inject({ url: '/metrics', headers: { authorization: 'Bearer x' } })
  t.match(headers['content-type'], /^text\/plain; version=0\.0\.4/)
  t.match(body, 'marty_rate_limit_decisions_total{rule="login",outcome="allowed"} 2\n')
})
