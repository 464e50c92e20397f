import t from 'tap'
import { useGuard } from '@marty/core'
import { until } from '@marty/testing'
import { Client, createService, type Answer, type Service } from './service.js'

const request = (method: string, id: unknown): object => ({ jsonrpc: '2.0', id, method })
const outcomes = (answers: unknown): unknown[] =>
  (answers as Answer[]).map(({ id, result, error }) => [id, error?.code ?? result])

/** A limit whose store takes its time: answers are given when the test says so. */
function slowLimit ({ app }: Service): { waiting: Array<() => void>, most: number } {
  const limit = { waiting: [] as Array<() => void>, most: 0 }
  useGuard(app).addCheck({
    name: 'slow-limit',
    stage: 'throttle',
    keys: [],
    compile: ({ transport }) => transport === 'http'
      ? null
      : async () => {
        await new Promise<void>(resolve => { limit.most = Math.max(limit.most, limit.waiting.push(resolve)) })
      }
  })
  return limit
}

t.test('the calls of a batch are checked together and carried out in order', async t => {
  const service = await createService(t, { maxBatch: 50 })
  const limit = slowLimit(service)
  const ran: number[] = []
  let running = 0
  service.app.rpc.method({
    name: 'step',
    security: { public: true },
    handler: async () => {
      t.equal(++running, 1, 'one at a time')
      await new Promise(resolve => setImmediate(resolve))
      running--
      return ran.push(ran.length)
    }
  })
  await service.listen()
  const client = await Client.connect(t, service.url())
  const batch = client.ask(Array.from({ length: 50 }, (_, i) => request('step', i)))
  const rounds: number[] = []
  while (ran.length < 50) {
    await until(() => limit.waiting.length > 0 || ran.length === 50)
    const round = limit.waiting.splice(0)
    if (round.length > 0) rounds.push(round.length)
    // The answers come in another order than the questions.
    for (const go of round.toReversed()) go()
  }
  t.strictSame(outcomes(await batch), Array.from({ length: 50 }, (_, i) => [i, i + 1]))
  t.strictSame(rounds, [1, 16, 16, 16, 1])
})

t.test('a batch ends early for a caller whose credential does', async t => {
  const service = await createService(t)
  const { app, revoked } = service
  app.rpc.method({
    name: 'quit',
    security: { testRole: 'viewer' },
    handler: async (_params, { principal, connection }) => {
      revoked.add(principal.id)
      await until(() => connection?.principal.kind === 'anonymous')
      return 'gone'
    }
  })
  await service.listen()
  const client = await Client.connect(t, service.url(), { headers: { authorization: 'Bearer alice:viewer' } })
  const answers = await client.ask(['view', 'view', 'quit', 'view', 'ping', 'who'].map(request))
  t.strictSame(outcomes(answers), [[0, 'alice'], [1, 'alice'], [2, 'gone'], [3, -32001], [4, 'pong'], [5, 'anonymous']])
})

t.test('a credential that expires during a batch is good for none of the calls after it', async t => {
  const service = await createService(t, { lifetimeMs: 400 })
  service.app.rpc.method({
    name: 'dawdle',
    security: { public: true },
    handler: async (_params, { connection }) => { await until(() => connection?.principal.kind === 'anonymous') }
  })
  await service.listen()
  const client = await Client.connect(t, service.url(), { headers: { authorization: 'Bearer alice:viewer' } })
  t.strictSame(outcomes(await client.ask(['ping', 'dawdle', 'view', 'who'].map(request))), [
    [0, 'pong'],
    [1, null],
    [2, -32001],
    [3, 'anonymous']
  ])
})

t.test('a POST finds its credential for each call, wherever the first that needs it stands', async t => {
  const { app } = await createService(t, { httpPath: '/rpc' })
  const post = async (authorization: string, methods: string[]): Promise<unknown> =>
    (
      await app.inject({
        method: 'POST',
        url: '/rpc',
        headers: { authorization, 'content-type': 'application/json' },
        payload: JSON.stringify(methods.map(request))
      })
    ).json()
  const methods = ['ping', 'view', 'ping', 'view', 'operate', 'who']
  t.strictSame(outcomes(await post('Bearer alice:viewer', methods)).slice(0, 5), [
    [0, 'pong'],
    [1, 'alice'],
    [2, 'pong'],
    [3, 'alice'],
    [4, -32002]
  ])
  t.strictSame(outcomes(await post('Bearer alice:nobody', methods)).slice(0, 5), [
    [0, 'pong'],
    [1, -32001],
    [2, 'pong'],
    [3, -32001],
    [4, -32001]
  ])
})
