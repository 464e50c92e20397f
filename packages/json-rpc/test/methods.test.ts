import t from 'tap'
import Fastify from 'fastify'
import { Type } from 'typebox'
import type { SecurityRule } from '@marty/core'
import { jsonRpc, type JsonRpcOptions } from '@marty/json-rpc'
import { Busy, Client, createService } from './service.js'

t.test('a method that does not say who may call it stops the start', async t => {
  const { app } = await createService(t)
  app.rpc.method({ name: 'forgotten', handler: () => null } as unknown as Parameters<typeof app.rpc.method>[0])
  await t.rejects(async () => await app.ready(), { code: 'MARTY_CORE_RULE_MISSING', message: /method forgotten/ })
})

t.test('without a strict guard too', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(jsonRpc)
  t.throws(
    () => {
      app.rpc.method({ name: 'forgotten', handler: () => null } as unknown as Parameters<typeof app.rpc.method>[0])
    },
    { code: 'MARTY_CORE_RULE_MISSING', message: /method forgotten/ }
  )
})

t.test('declarations that cannot be meant are refused', async t => {
  const { app } = await createService(t)
  const security: SecurityRule = { public: true }
  t.throws(
    () => {
      app.rpc.method({ name: 'ping', security, handler: () => null })
    },
    { code: 'MARTY_JSON_RPC_METHOD_DUPLICATE', message: /ping/ }
  )
  t.throws(
    () => {
      app.rpc.method({ name: 'authenticate', security, handler: () => null })
    },
    { code: 'MARTY_JSON_RPC_METHOD_DUPLICATE' }
  )
  for (const name of ['', 'rpc.discover', '1st', 'with space', 'x'.repeat(65)]) {
    t.throws(
      () => {
        app.rpc.method({ name, security, handler: () => null })
      },
      { code: 'MARTY_JSON_RPC_METHOD_INVALID' },
      name
    )
  }
  t.throws(
    () => {
      app.rpc.method({ name: 'listed', security, params: Type.Array(Type.String()) as never, handler: () => null })
    },
    { code: 'MARTY_JSON_RPC_METHOD_INVALID' }
  )
  app.rpc.method({ name: 'misspelt', security: { testRoel: 'viewer' } as SecurityRule, handler: () => null })
  await t.rejects(async () => await app.ready(), {
    code: 'MARTY_CORE_RULE_INVALID',
    message: /method misspelt: .*did you mean "testRole"/
  })
})

t.test('invalid options are refused by name', async t => {
  const cases: ReadonlyArray<readonly [object, RegExp]> = [
    [{ maxConection: 5 }, /"maxConection" is not known; did you mean "maxConnections"/],
    [{ maxConnections: 0 }, /maxConnections/],
    [{ maxBatch: '20' }, /maxBatch/],
    [{ pingIntervalMs: 2 ** 31 }, /pingIntervalMs/],
    [{ path: 'ws' }, /"path" must be/],
    [{ httpPath: '/ws' }, /"httpPath" must differ/],
    [{ allowedOrigins: ['*'] }, /"\*"/],
    [{ allowedOrigins: ['null'] }, /"null"/],
    [{ allowedOrigins: ['https://a.example/'] }, /must be an exact origin .* not "https:\/\/a\.example\/"/],
    [{ sameOrigin: 'yes' }, /sameOrigin/],
    [{ describePrincipal: {} }, /describePrincipal/]
  ]
  for (const [options, message] of cases) {
    const app = Fastify()
    await t.rejects(
      async () => {
        await app.register(jsonRpc, options as JsonRpcOptions)
      },
      { code: 'MARTY_JSON_RPC_OPT_INVALID', message }
    )
    await app.close().catch(() => {})
  }
})

t.test('a WebSocket server with limits of its own is not shared', async t => {
  const { default: websocket } = await import('@fastify/websocket')
  const app = Fastify()
  await app.register(websocket)
  await t.rejects(async () => { await app.register(jsonRpc) }, { code: 'MARTY_JSON_RPC_WEBSOCKET_TAKEN' })
  await app.close().catch(() => {})
})

t.test('wrong params are all told at once, by name and never by value', async t => {
  const { listen, url } = await createService(t)
  await listen()
  const client = await Client.connect(t, url())
  const { error } = await client.call('snapshot', {
    devise: 'hunter2',
    quality: 0.5,
    format: 'bmp',
    filter: { topic: 1, extra: 2 }
  })
  t.equal(error?.code, -32602)
  t.notMatch(JSON.stringify(error), 'hunter2')
  const errors = error?.data.errors as Array<{ path: string, message: string }>
  t.match(error, {
    message: /Invalid params: devise .*\(and \d more\)/,
    data: { code: 'MARTY_JSON_RPC_PARAMS_INVALID' }
  })
  t.same(
    errors.map(({ path }) => path).sort(),
    ['devise', 'device', 'filter.extra', 'filter.topic', 'format', 'quality'].sort()
  )
  t.match(errors.find(({ path }) => path === 'devise'), { message: /did you mean "device"\?/ })
  t.match(errors.find(({ path }) => path === 'device'), { message: 'is required' })
  t.match(errors.find(({ path }) => path === 'format'), { message: 'must be "jpg" or "png"' })

  const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`name${index}`, 1]))
  t.equal(((await client.call('snapshot', many)).error?.data.errors as unknown[]).length, 32, 'a flood of names is cut')
  t.match(
    await client.call('ping', { extra: 1 }),
    { error: { code: -32602, data: { errors: [{ path: 'extra' }] } } },
    'no params means none'
  )
  t.match(await client.call('snapshot'), {
    error: { code: -32602, data: { errors: [{ path: 'device', message: 'is required' }] } }
  })
  t.strictSame((await client.call('snapshot', { device: 'camera0', quality: 85, format: 'png' })).result, {
    device: 'camera0'
  })
})

t.test('errors of handlers: coded ones are told, others are logged and not told', async t => {
  const { listen, url, logs } = await createService(t)
  await listen()
  const client = await Client.connect(t, url())
  const busy = await client.call('busy')
  t.match(busy.error, {
    code: -32020,
    message: 'The camera is busy',
    data: { code: 'TEST_BUSY', state: 'recording', request_id: String }
  })
  for (const method of ['explode', 'unwritable']) {
    const { error } = await client.call(method)
    t.match(error, { code: -32603, data: { code: 'MARTY_CORE_INTERNAL', request_id: String } }, method)
    t.notMatch(JSON.stringify(error), /hunter2|BigInt/)
    t.ok(
      logs.some(line => line.includes('call failed') && line.includes(error?.data.request_id as string)),
      'the log has it under the same id'
    )
  }
})

t.test('calls of methods that ask for it are told to the sinks, however they end', async t => {
  const { app, listen, url, events } = await createService(t)
  const ends = ['well', 'busy', 'broken']
  app.rpc.method({
    name: 'told',
    security: { public: true, audit: 'all' },
    params: Type.Object({ end: Type.String() }),
    handler: ({ end }) => {
      if (end === 'busy') throw new Busy()
      if (end === 'broken') throw new Error('password=hunter2')
    }
  })
  await listen()
  const client = await Client.connect(t, url(), { headers: { authorization: 'Bearer alice:viewer' } })
  for (const end of ends) await client.call('told', { end })
  await client.call('told')
  await client.call('ping')
  t.same(
    events
      .filter(({ type }) => type === 'operation')
      .map(({ action, outcome, reason, principal, address }) => [action, outcome, reason, principal.id, address]),
    [
      ['told', 'success', null, 'alice', '127.0.0.1'],
      ['told', 'failure', 'TEST_BUSY', 'alice', '127.0.0.1'],
      ['told', 'failure', 'MARTY_CORE_INTERNAL', 'alice', '127.0.0.1'],
      ['told', 'failure', 'MARTY_JSON_RPC_PARAMS_INVALID', 'alice', '127.0.0.1']
    ]
  )
})

t.test('documents see every method with its rule', async t => {
  const { app } = await createService(t)
  await app.ready()
  const snapshot = app.rpc.methods().find(({ name }) => name === 'snapshot')
  t.match(snapshot, {
    summary: 'Takes a picture',
    security: { public: true },
    params: { additionalProperties: false, required: ['device'] },
    result: { type: 'object' }
  })
  t.match(
    app.rpc.methods().find(({ name }) => name === 'authenticate'),
    { security: { authenticate: true }, params: { required: ['auth_token'] } }
  )
  t.match(
    app.guard.operations().find(({ name }) => name === 'view'),
    { transport: 'rpc', rule: { testRole: 'viewer' } }
  )
})

t.test('the same methods by POST', async t => {
  const { app } = await createService(t, { httpPath: '/rpc', maxPayloadBytes: 4096 })
  const post = async (
    payload: unknown,
    headers: Record<string, string> = {}
  ): Promise<Awaited<ReturnType<typeof app.inject>>> =>
    await app.inject({
      method: 'POST',
      url: '/rpc',
      headers: { 'content-type': 'application/json', ...headers },
      payload: typeof payload === 'string' ? payload : JSON.stringify(payload)
    })
  const call = (method: string): object => ({ jsonrpc: '2.0', id: 1, method })

  t.equal((await post(call('ping'), { 'content-type': 'text/plain' })).statusCode, 415)
  t.equal((await post(call('ping'), { origin: 'https://evil.example' })).statusCode, 403)
  t.equal((await post('x'.repeat(5000))).statusCode, 413)
  t.match((await post('{')).json(), { id: null, error: { code: -32700 } })
  t.match((await post('')).json(), { id: null, error: { code: -32700 } })
  t.match((await post(call('view'))).json(), { error: { code: -32001 } })
  t.match((await post(call('view'), { authorization: 'Bearer nobody' })).json(), { error: { code: -32001 } })
  t.match((await post(call('operate'), { authorization: 'Bearer alice:viewer' })).json(), {
    error: { code: -32002, data: { code: 'TEST_FORBIDDEN' } }
  })
  t.match((await post(call('view'), { authorization: 'Bearer alice:viewer' })).json(), { result: 'alice' })
  t.match(
    (
      await post([call('view'), call('operate'), { jsonrpc: '2.0', method: 'ping' }], {
        authorization: 'Bearer alice:viewer'
      })
    ).json(),
    [{ result: 'alice' }, { error: { code: -32002 } }]
  )
  const notified = await post({ jsonrpc: '2.0', method: 'ping' })
  t.equal(notified.statusCode, 204)
  t.equal(notified.body, '')
  const plain = await app.inject('/rpc')
  t.equal(plain.statusCode, 404, 'only POST')
})
