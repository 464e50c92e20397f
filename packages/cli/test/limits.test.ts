import { ANONYMOUS } from '@marty/core'
import { rateLimit, type Limiter, type Refused } from '@marty/rate-limit'
import { openRedis, type RedisClient } from '@marty/redis'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { freePort, startRedis, until } from '@marty/testing'
import { ownRedis, refuses, run, runAsChild } from './run.js'

const HOUR = 3_600_000
const ada = { ...ANONYMOUS, kind: 'user', id: 'ada', roles: ['admin'] } as const

async function service (t: Test, redis: RedisClient, prefix?: string): Promise<Limiter> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(rateLimit, {
    rules: {
      login: { limit: 2, windowMs: 300_000, by: 'address' },
      calls: { limit: { default: 3, admin: 9 }, windowMs: 26 * HOUR, by: 'principal' },
      guess: { limit: 5, windowMs: 300_000, by: 'account+address' },
      tenant: { limit: 5, windowMs: 300_000, by: 'tenant' },
      each: { limit: 3, windowMs: 1500, by: 'address+operation' }
    },
    store: { redis, deadlineMs: 2_000, ...(prefix === undefined ? {} : { prefix }) }
  })
  await app.ready()
  await until(
    async () => (await redis.exists(`{${prefix ?? 'marty:limit'}}:#rules`)) === 1,
    'the rules to be published'
  )
  return app.limiter
}

t.test('limits: a wrong command line, rule or budget', async t => {
  const { url, client } = await ownRedis(t)
  await service(t, client)
  const away = ['--redis', `redis://admin:sesame@127.0.0.1:${await freePort()}`]
  const here = ['--redis', url]
  await refuses(
    t,
    [
      [2, /there are limits show, limits reset, limits top/, ['limits']],
      [2, /did you mean "marty limits reset"/, ['limits', 'rest', 'login']],
      [2, /limits show needs RULE/, ['limits', 'show', ...here]],
      [2, /say which Redis/, ['limits', 'top']],
      [2, /--count "0" is not a number from 1 to 9999/, ['limits', 'top', '--count', '0', ...here]],
      [2, /--count "many"/, ['limits', 'top', '--count', 'many', ...here]],
      [
        2,
        /--principal "ada" must be KIND:ID, such as user:alice/,
        ['limits', 'show', 'calls', '--principal', 'ada', ...here]
      ],
      [
        2,
        /"login:address:192.0.2.1" is a key and says who is meant; leave out --address/,
        ['limits', 'reset', 'login:address:192.0.2.1', '--address', '192.0.2.1', ...here]
      ],
      [
        2,
        /rule "login" counts by address: name the address \(MARTY_RATE_LIMIT_BUDGET_INVALID\)/,
        ['limits', 'show', 'login', ...here]
      ],
      [2, /"localhost" is no address/, ['limits', 'reset', 'login', '--address', 'localhost', ...here]],
      [2, /no key of a budget/, ['limits', 'show', ':', ...here]],
      [
        5,
        /no service uses a rule "logni".*did you mean "login"\? \(MARTY_RATE_LIMIT_RULE_UNKNOWN\)/,
        ['limits', 'show', 'logni', '--address', '192.0.2.1', ...here]
      ],
      [
        5,
        /under the prefix shop; known are none/,
        ['limits', 'reset', 'login', '--address', '192.0.2.1', '--redis-prefix', 'shop', ...here]
      ],
      [6, /MARTY_REDIS_UNAVAILABLE/, ['limits', 'top', ...away]]
    ],
    ['sesame']
  )
})

t.test('who is refused is found, looked at and let go', async t => {
  const { url, client } = await ownRedis(t)
  const limiter = await service(t, client)
  const here = ['--redis', url]
  t.match(await run('limits', 'top', ...here), { code: 0, out: 'Nobody is refused.\n' })
  t.match(await run('limits', 'show', 'login', '--address', '2001:db8::1', ...here), {
    code: 0,
    err: '',
    out: /^KEY +USED +LIMIT +WINDOW +REMAINING +NEXT FITS\nlogin:address:2001:db8:0:0::\/64 +0 +2 +5m +2 +now\n$/
  })
  for (let i = 0; i < 4; i++) await limiter.check({ address: '192.0.2.1' }, ['login'])
  for (let i = 0; i < 10; i++) await limiter.check({ address: null, principal: ada }, ['calls'])
  await until(
    async () => (JSON.parse((await run('limits', 'top', '--json', ...here)).out) as Refused[]).length === 2,
    'the refusals to be told of'
  )

  const top = await runAsChild(['limits', 'top'], { env: { MARTY_REDIS_URL: url } })
  t.match(top, {
    code: 0,
    err: '',
    out: /^KEY +REFUSALS +NEXT FITS\nlogin:address:192\.0\.2\.1 +2 +in 4m \d+s\ncalls:user:3:ada +1 +in 1d 1h\n$/
  })
  t.match(JSON.parse((await run('limits', 'top', '--count', '1', '--json', ...here)).out), [
    { key: 'login:address:192.0.2.1', rule: 'login', refusals: 2 }
  ])

  t.match(await run('limits', 'show', 'login:address:192.0.2.1', ...here), {
    code: 0,
    out: /\nlogin:address:192\.0\.2\.1 +2 +2 +5m +0 +in 4m \d+s\n/
  })
  t.match(JSON.parse((await run('limits', 'show', 'login', '--address', '192.0.2.1', '--json', ...here)).out), {
    key: 'login:address:192.0.2.1',
    limit: 2,
    windowMs: 300_000,
    used: 2,
    remaining: 0
  })
  t.match(await run('limits', 'show', 'calls', '--principal', 'user:ada', ...here), {
    code: 0,
    out: /\ncalls:user:3:ada +9 +\? +1d 2h +\? +\?\n/
  })
  t.match(
    await run('limits', 'show', 'calls', '--principal', 'user:ada', '--role', 'viewer', '--role', 'admin', ...here),
    { out: /\ncalls:user:3:ada +9 +9 +1d 2h +0 +in 1d 1h\n/ }
  )
  t.match(await run('limits', 'show', 'each', '--address', '192.0.2.1', '--operation', 'GET /cameras/:id', ...here), {
    out: /\neach:address:192\.0\.2\.1 GET \/cameras\/:id +0 +3 +1s 500ms +3 +now\n/
  })

  t.match(await run('limits', 'show', 'guess', '--account', 'ada', '--address', '192.0.2.1', ...here), {
    out: /\nguess:account:3:ada 192\.0\.2\.1 +0 +5 /
  })
  t.match(await run('limits', 'show', 'tenant', '--tenant', 'acme', ...here), { out: /\ntenant:tenant:4:acme +0 +5 / })

  t.match(await run('limits', 'reset', 'login', '--address', '192.0.2.1', ...here), {
    code: 0,
    err: '',
    out: 'login:address:192.0.2.1 is empty again\n'
  })
  t.match(await run('limits', 'reset', 'login:address:192.0.2.1', ...here), {
    code: 0,
    out: 'login:address:192.0.2.1 was not used\n'
  })
  t.match(JSON.parse((await run('limits', 'reset', 'calls', '--principal', 'user:ada', '--json', ...here)).out), {
    key: 'calls:user:3:ada',
    wasUsed: true
  })
  t.match(await run('limits', 'top', ...here), { out: 'Nobody is refused.\n' })
  await until(
    async () => (await limiter.check({ address: null, principal: ada }, ['calls'])).allowed,
    'the memory of the process to hear of it'
  )
  t.match(
    await run('limits', 'show', 'lone:global', ...here),
    { code: 0, out: /\nlone:global +0 +\? +\? +\? +\?\n/ },
    'a key of a rule that nobody uses'
  )
})

t.test('what clients call themselves steers no terminal', async t => {
  const { url, client } = await ownRedis(t)
  const limiter = await service(t, client, 'shop')
  const id = 'a\u001b[2J\u202e'
  for (let i = 0; i < 4; i++) await limiter.check({ address: null, principal: { ...ada, roles: [], id } }, ['calls'])
  const top = async (...args: string[]): Promise<string> =>
    (await run('limits', 'top', '--redis', url, '--redis-prefix', 'shop', ...args)).out
  await until(async () => (await top()).includes('calls:'), 'the refusal to be told of')
  t.notMatch(await top(), /[^\P{C}\n]/u)
  t.match(JSON.parse(await top('--json')), [{ key: `calls:user:6:${id}` }])
})

t.test('one node of a cluster is enough to find the others', async t => {
  const port = await freePort()
  const server = await startRedis(port, [
    '--cluster-enabled',
    'yes',
    '--cluster-announce-ip',
    '127.0.0.1',
    '--cluster-port',
    String(await freePort()),
    '--requirepass',
    'sesame'
  ])
  t.teardown(() => server.stop())
  const url = `redis://:sesame@127.0.0.1:${port}`
  const node = openRedis({ url, commandTimeoutMs: 2_000 })
  t.teardown(() => node.close())
  await node.ready(10_000)
  await node.client.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
  await until(
    async () => String(await node.client.call('CLUSTER', 'INFO')).includes('cluster_state:ok'),
    'the cluster to be ok'
  )
  const redis = openRedis({ cluster: [{ host: '127.0.0.1', port }], password: 'sesame', commandTimeoutMs: 2_000 })
  t.teardown(() => redis.close())
  await redis.ready(10_000)
  const limiter = await service(t, redis.client)
  await limiter.check({ address: '192.0.2.1' }, ['login'])
  t.match(JSON.parse((await run('limits', 'show', 'login', '--address', '192.0.2.1', '--redis', url, '--json')).out), {
    used: 1,
    remaining: 1
  })
  t.match(await run('limits', 'reset', 'login', '--address', '192.0.2.1', '--redis', url), {
    code: 0,
    out: /is empty again/
  })
})
