import t from 'tap'
import { until } from '@marty/testing'
import { Client, createService, refusal } from './service.js'

const CALL = JSON.stringify({ jsonrpc: '2.0', method: 'ping' })

t.test('a connection that only sends what is rate limited is closed with 1008', async t => {
  const { listen, url, throttled, logs } = await createService(t, { limited: ['ping'] })
  await listen()
  const client = await Client.connect(t, url())
  for (let sent = 0; sent < 3_000; sent++) client.send(CALL)
  await until(() => client.closed !== null)
  t.strictSame(client.closed, { code: 1008, reason: 'too many consecutive refused calls' })
  t.ok(
    throttled.length >= 100 && throttled.length <= 116,
    `no more than was being worked on is looked at: ${throttled.length}`
  )
  t.notOk(logs.some(line => line.includes('call refused')), 'and the log does not grow with it')
  t.equal(logs.filter(line => line.includes('too many consecutive calls were refused')).length, 1)
})

t.test('calls in a batch count one by one, malformed and unknown ones too, and the last answer arrives', async t => {
  const { listen, url } = await createService(t, {
    limited: ['ping', 'unknown method', 'invalid request'],
    maxRefusals: 6,
    maxBatch: 3
  })
  await listen()
  const client = await Client.connect(t, url())
  const batch = [{ jsonrpc: '2.0', id: 1, method: 'ping' }, { jsonrpc: '2.0', id: 2, method: 'nope' }, { id: 3 }]
  t.match(await client.ask(batch), [
    { error: { data: { code: 'TEST_LIMITED' } } },
    { error: { data: { code: 'TEST_LIMITED' } } },
    { error: { data: { code: 'TEST_LIMITED' } } }
  ])
  t.equal(client.closed, null)
  t.match(await client.ask(batch), [{ id: 1 }, { id: 2 }, { id: 3 }])
  await until(() => client.closed !== null)
  t.equal(client.closed?.code, 1008)
})

t.test('any call that is not rate limited begins the count anew, and other refusals do not count', async t => {
  const { listen, url } = await createService(t, { limited: ['ping'], maxRefusals: 3 })
  await listen()
  const client = await Client.connect(t, url())
  for (let round = 0; round < 3; round++) {
    for (let refused = 0; refused < 2; refused++) {
      t.match(await client.call('ping'), { error: { data: { code: 'TEST_LIMITED' } } })
    }
    t.equal((await client.call('who')).result, 'anonymous')
  }
  for (let refused = 0; refused < 10; refused++) t.match(await client.call('view'), { error: { code: -32001 } })
  t.equal(client.closed, null)
  for (let refused = 0; refused < 3; refused++) await client.call('ping')
  await until(() => client.closed !== null)
  t.equal(client.closed?.code, 1008)
})

t.test('the rule of the transport is public and nothing else', async t => {
  for (const transportSecurity of [
    null,
    'public',
    [],
    {},
    { public: false },
    { authenticate: true },
    { public: true, authenticate: true }
  ]) {
    const made = createService(t, { transportSecurity: transportSecurity as never }).then(async ({ app }) => {
      await app.ready()
    })
    await t.rejects(made, { message: /transportSecurity|public/ }, JSON.stringify(transportSecurity))
  }
  const unknown = createService(t, { transportSecurity: { public: true, testLimt: false } as never }).then(
    async ({ app }) => {
      await app.ready()
    }
  )
  await t.rejects(unknown, { code: /RULE/ }, 'what no plugin understands')
})

t.test('the rule of the transport holds for upgrades and POST alike', async t => {
  const payload = { jsonrpc: '2.0', id: 1, method: 'who' }
  const limited = await createService(t, { limited: ['transport'], httpPath: '/rpc' })
  await limited.listen()
  t.match(await refusal(t, limited.url()), { status: 429 })
  t.equal((await limited.app.inject({ method: 'POST', url: '/rpc', payload })).statusCode, 429)

  const free = await createService(t, {
    limited: ['transport', 'ping'],
    httpPath: '/rpc',
    transportSecurity: { public: true, testLimit: false }
  })
  await free.listen()
  const client = await Client.connect(t, free.url(), { headers: { authorization: 'Bearer alice:viewer' } })
  t.equal((await client.call('who')).result, 'alice')
  t.match(
    await client.call('ping'),
    { error: { data: { code: 'TEST_LIMITED' } } },
    'calls are still charged one by one'
  )
  t.match((await free.app.inject({ method: 'POST', url: '/rpc', payload })).json(), { result: 'anonymous' })
})

t.test('bad numbers of refusals stop the start', async t => {
  for (const maxRefusals of [0, -1, 1.5, '100' as never]) {
    await t.rejects(createService(t, { maxRefusals }), { code: 'MARTY_JSON_RPC_OPT_INVALID', message: /maxRefusals/ })
  }
})
