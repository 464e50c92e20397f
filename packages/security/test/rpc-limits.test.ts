import Fastify from 'fastify'
import t from 'tap'
import { jsonRpc } from '@marty/json-rpc'
import { rateLimit } from '@marty/rate-limit'
import { openRedis } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'

interface Answer {
  readonly id: number
  readonly result?: unknown
  readonly error?: { readonly code: number; readonly data: Record<string, unknown> }
}

const server = await startRedis(await freePort())
t.teardown(() => server.stop())
const redis = openRedis({ url: `redis://127.0.0.1:${server.port}`, commandTimeoutMs: 2_000 })
t.teardown(() => redis.close())
await redis.ready(10_000)

const app = Fastify()
t.teardown(() => app.close())
await app.register(rateLimit, {
  rules: {
    client: { limit: 160, windowMs: 600_000, by: 'principal' },
    burst: { limit: 150, windowMs: 60_000, by: 'address' },
    each: { limit: 120, windowMs: 600_000, by: 'principal+operation' }
  },
  apply: { rpc: ['client', 'burst', 'each'] },
  store: { redis: redis.client, deadlineMs: 2_000 }
})
await app.register(jsonRpc, { maxBatch: 50 })
app.rpc.method({ name: 'ping', security: { public: true }, handler: () => 'pong' })
app.rpc.method({ name: 'free', security: { public: true, limits: false }, handler: () => 'free' })
await app.ready()
await until(async () => await redis.client.exists('{marty:limit}:#rules') === 1, 'the rules to be published')

async function scriptCalls (): Promise<number> {
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.client.info('commandstats'))?.[1] ?? 0)
}

const request = (method: string, id: number): object => ({ jsonrpc: '2.0', id, method })
const socket = await app.injectWS('/ws')
t.teardown(() => { socket.terminate() })
const heard: unknown[] = []
socket.on('message', data => { heard.push(JSON.parse((data as Buffer).toString())) })

t.test('a batch of fifty calls with three limits each is few questions to Redis', async t => {
  const before = await scriptCalls()
  socket.send(JSON.stringify(Array.from({ length: 50 }, (_, i) => request('ping', i))))
  await until(() => heard.length === 1, 'the answer')
  const answers = heard.pop() as Answer[]
  t.strictSame(answers.map(({ id, result }) => [id, result]), Array.from({ length: 50 }, (_, i) => [i, 'pong']))
  const calls = await scriptCalls() - before
  t.ok(calls <= 6, `${calls} calls`)
})

t.test('so are fifty messages', async t => {
  const before = await scriptCalls()
  for (let i = 0; i < 50; i++) socket.send(JSON.stringify(request('ping', i)))
  await until(() => heard.length === 50, 'the answers')
  t.ok((heard.splice(0) as Answer[]).every(({ result }) => result === 'pong'))
  const calls = await scriptCalls() - before
  t.ok(calls <= 25, `${calls} calls`)
})

t.test('a batch beyond a limit is admitted up to it, in its order', async t => {
  socket.send(JSON.stringify(Array.from({ length: 50 }, (_, i) => request('ping', i))))
  await until(() => heard.length === 1, 'the answer')
  const answers = heard.pop() as Answer[]
  t.strictSame(answers.map(({ error }) => error?.code ?? 0), Array.from({ length: 50 }, (_, i) => i < 20 ? 0 : -32040))
  t.match(answers[49]?.error?.data, { code: 'MARTY_RATE_LIMIT_EXCEEDED', 'violated-policies': ['each'] })
  const { each, client, burst } = app.limiter.metrics()
  t.equal(each!.denied + each!.known_denied, 30)
  t.match([each, client, burst], [{ allowed: 120 }, { allowed: 120, denied: 0 }, { allowed: 120, denied: 0 }])
  const before = await scriptCalls()
  socket.send(JSON.stringify(Array.from({ length: 50 }, (_, i) => request('free', i))))
  await until(() => heard.length === 1, 'the answer')
  t.ok(
    (await scriptCalls()) - before <= 1,
    'nothing is asked where nothing is limited; a report of the refusals may be under way'
  )
})
