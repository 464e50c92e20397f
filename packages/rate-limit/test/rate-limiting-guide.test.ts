import t from 'tap'
import type { FastifyInstance } from 'fastify'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { presets, rateLimit, type LimitRule } from '@marty/rate-limit'
import { openRedis } from '@marty/redis'
import Fastify from 'fastify'
import { freePort, startRedis } from '@marty/testing'

const guide = readFileSync(new URL('../../../docs/guides/rate-limiting.md', import.meta.url), 'utf8')
const AsyncFunction = (async () => {}).constructor as new (...text: string[]) => (...args: unknown[]) => Promise<void>

t.test('what the guide to limits shows runs', async t => {
  const code = [...guide.matchAll(/```js\n([\s\S]*?)```/g)].map(block => block[1]).join('\n')
  const file = new URL(`rate-limiting-guide-${process.pid}.mjs`, import.meta.url)
  t.teardown(() => {
    rmSync(file, { force: true })
  })
  writeFileSync(file, `${code}\nexport { app, plans, hot }\n`)
  const { app, plans, hot } = (await import(file.href)) as {
    app: FastifyInstance
    plans: LimitRule
    hot: Record<string, LimitRule>
  }
  t.teardown(() => app.close())
  const statuses = async (
    times: number,
    method: 'GET' | 'POST',
    url: string,
    remoteAddress: string,
    payload?: object
  ): Promise<number[]> => {
    const answers = []
    for (let i = 0; i < times; i++) {
      answers.push(
        (await app.inject({ method, url, remoteAddress, ...(payload === undefined ? {} : { payload }) })).statusCode
      )
    }
    return answers
  }
  t.strictSame(
    await statuses(5, 'GET', '/search', '192.0.2.1'),
    [200, 200, 200, 200, 429],
    'five units a call, of twenty'
  )
  t.strictSame(await statuses(3, 'POST', '/contact', '192.0.2.2'), [200, 200, 429])
  t.strictSame(
    await statuses(3, 'POST', '/login', '192.0.2.3', { name: 'Alice', password: 'correct horse' }),
    [200, 200, 200],
    'only failures count'
  )
  t.strictSame(
    await statuses(6, 'POST', '/login', '192.0.2.3', { name: 'Alice', password: 'wrong' }),
    [401, 401, 401, 401, 401, 429]
  )
  const refused = await app.inject({
    method: 'POST',
    url: '/login',
    remoteAddress: '192.0.2.3',
    payload: { name: 'alice', password: 'correct horse' }
  })
  t.match(refused.headers['retry-after'], /^(29\d|300)$/)
  t.match(refused.json(), { code: 'MARTY_RATE_LIMIT_EXCEEDED' })
  t.strictSame(
    await statuses(1, 'POST', '/login', '192.0.2.4', { name: 'alice', password: 'correct horse' }),
    [200],
    'the owner elsewhere still gets in'
  )
  t.match(
    (await app.inject({ url: '/hello', remoteAddress: '192.0.2.5' })).headers['ratelimit-policy'],
    '"client";q=60;w=60'
  )

  const other = Fastify()
  t.teardown(() => other.close())
  await t.resolves(async () => {
    await other.register(rateLimit, { rules: { plans, ...hot } })
  })
  await other.ready()
  t.match(
    await other.limiter.check({ address: null, operation: 'export' }, ['everybody', 'export']),
    { allowed: true, quotas: [{ remaining: 49_999 }, { remaining: 999 }] },
    'without Redis, as without a lease'
  )
})

t.test('the line for several processes shares budgets', async t => {
  const [, line = ''] = /```ts\n([\s\S]*?)```/.exec(guide) ?? []
  const server = await startRedis(await freePort())
  t.teardown(() => server.stop())
  const connection = openRedis({ url: `redis://127.0.0.1:${server.port}`, commandTimeoutMs: 2_000 })
  t.teardown(() => connection.close())
  await connection.ready(10_000)
  const start = async (): Promise<FastifyInstance> => {
    const app = Fastify()
    t.teardown(() => app.close())
    const patient = line.replace('{ redis,', '{ redis, deadlineMs: 2_000,')
    t.not(patient, line)
    await new AsyncFunction('app', 'rateLimit', 'rules', 'redis', patient)(
      app,
      rateLimit,
      { login: presets.login },
      connection.client
    )
    await app.ready()
    return app
  }
  const [one, two] = [await start(), await start()]
  const who = { account: 'alice', address: '192.0.2.1' }
  for (let i = 0; i < 5; i++) t.match(await one.limiter.check(who, ['login']), { allowed: true })
  t.match(await two.limiter.check(who, ['login']), { allowed: false })
})
