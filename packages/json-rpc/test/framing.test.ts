import t from 'tap'
import fc from 'fast-check'
import { Client, createService, type Answer } from './service.js'

const request = (method: string, extra: object = {}): object => ({ jsonrpc: '2.0', id: 1, method, ...extra })

t.test('what is no JSON-RPC gets the right error and keeps the connection', async t => {
  const { listen, url } = await createService(t)
  await listen()
  const client = await Client.connect(t, url())
  const cases: ReadonlyArray<readonly [string, unknown, number, unknown]> = [
    ['garbage', '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', -32700, null],
    ['nothing', '', -32700, null],
    ['half a batch', '[{"jsonrpc":"2.0","method":"ping","id":1},{"jsonrpc":"2.0"', -32700, null],
    [
      'a prototype',
      '{"jsonrpc":"2.0","id":1,"method":"snapshot","params":{"device":"a","__proto__":{"x":1}}}',
      -32700,
      null
    ],
    [
      'an escaped prototype',
      '{"jsonrpc":"2.0","id":1,"method":"snapshot","params":{"device":"a","\\u005f_proto__":{"x":1}}}',
      -32700,
      null
    ],
    ['a constructor', '{"jsonrpc":"2.0","id":1,"method":"ping","constructor":{"prototype":{"x":1}}}', -32700, null],
    ['a number', '1', -32600, null],
    ['a string', '"ping"', -32600, null],
    ['null', 'null', -32600, null],
    ['an empty batch', '[]', -32600, null],
    ['no version', { id: 1, method: 'ping' }, -32600, 1],
    ['version 1.0', { jsonrpc: '1.0', id: 'a', method: 'ping' }, -32600, 'a'],
    ['a method that is no string', { jsonrpc: '2.0', id: 1, method: 1 }, -32600, 1],
    ['params that are text', request('ping', { params: 'bar' }), -32600, 1],
    ['params that are null', request('ping', { params: null }), -32600, 1],
    ['an id that is an object', request('ping', { id: {} }), -32600, null],
    ['an id that is true', request('ping', { id: true }), -32600, null],
    ['an id beyond 2^53', '{"jsonrpc":"2.0","id":12345678901234567890,"method":"ping"}', -32600, null],
    ['an infinite id', '{"jsonrpc":"2.0","id":1e999,"method":"ping"}', -32600, null],
    ['an unknown method', request('pong'), -32601, 1],
    ['a method named like a member of objects', request('toString'), -32601, 1],
    ['params by position', request('snapshot', { params: ['camera0'] }), -32602, 1]
  ]
  for (const [what, message, code, id] of cases) {
    const answer = await client.ask(message) as Answer
    t.equal(answer.error?.code, code, what)
    t.equal(answer.id, id, `${what}: id`)
    t.type(answer.error?.data.request_id, 'string', `${what}: request_id`)
  }
  t.match(await client.ask(request('pong')), {
    error: { message: /did you mean "ping"/, data: { code: 'MARTY_JSON_RPC_METHOD_UNKNOWN' } }
  })
  t.equal((await client.call('ping')).result, 'pong', 'the connection lives on')
})

t.test('nesting is bounded', async t => {
  const { listen, url } = await createService(t, { maxAnonymousPayloadBytes: 65536 })
  await listen()
  const client = await Client.connect(t, url())
  const nested = (levels: number): string =>
    `{"jsonrpc":"2.0","id":7,"method":"ping","params":${'['.repeat(levels)}${']'.repeat(levels)}}`
  t.match(await client.ask(nested(16)), { id: null, error: { code: -32600, message: /16 levels/ } })
  t.match(await client.ask(nested(15)), { id: 7, error: { code: -32602 } }, 'deep enough to be read')
  t.match(
    await client.ask('['.repeat(30_000) + ']'.repeat(30_000)),
    { error: { code: -32600 } },
    'as deep as a message can be'
  )
})

t.test('ids are echoed as they came; an undefined result is null', async t => {
  const { listen, url } = await createService(t)
  await listen()
  const client = await Client.connect(t, url())
  for (const id of [0, -1, 1.5, 'x', '', null, 2 ** 53 - 1]) {
    t.strictSame(await client.ask(request('ping', { id })), { jsonrpc: '2.0', result: 'pong', id })
  }
  t.strictSame(await client.ask(request('nothing')), { jsonrpc: '2.0', result: null, id: 1 })
  t.strictSame(
    await client.ask(request('ping', { params: [] })),
    { jsonrpc: '2.0', result: 'pong', id: 1 },
    'no params by position'
  )
})

t.test('notifications get no answer, whatever becomes of them', async t => {
  const { listen, url, throttled } = await createService(t)
  await listen()
  const client = await Client.connect(t, url())
  for (const method of ['ping', 'unheard_of', 'view', 'explode']) client.send({ jsonrpc: '2.0', method })
  client.send({ jsonrpc: '2.0', method: 'snapshot', params: { nonsense: 1 } })
  client.send([{ jsonrpc: '2.0', method: 'ping' }, { jsonrpc: '2.0', method: 'explode' }])
  t.equal((await client.call('ping')).result, 'pong')
  t.equal(client.heard.length, 1)
  t.same(
    throttled.filter(name => name === 'unknown method'),
    ['unknown method'],
    'unknown methods cost, answered or not'
  )
})

t.test('each call of a batch is answered for itself, notifications are not', async t => {
  const { listen, url, throttled } = await createService(t)
  await listen()
  const client = await Client.connect(t, url())
  const answers = await client.ask([
    { jsonrpc: '2.0', method: 'ping', id: '1' },
    { jsonrpc: '2.0', method: 'ping' },
    { foo: 'boo' },
    1,
    { jsonrpc: '2.0', method: 'view', id: '2' },
    { jsonrpc: '2.0', method: 'authenticate', params: { auth_token: 'alice:viewer' }, id: '3' },
    { jsonrpc: '2.0', method: 'view', id: '4' },
    { jsonrpc: '2.0', method: 'unheard_of', id: '5' }
  ]) as Answer[]
  t.same(
    answers.map(({ id, result, error }) => [id, error?.code ?? result]),
    [
      ['1', 'pong'],
      [null, -32600],
      [null, -32600],
      ['2', -32001],
      [
        '3',
        {
          authenticated: true,
          role: 'viewer',
          roles: ['viewer'],
          expires_at: (answers[4]?.result as { expires_at: string }).expires_at
        }
      ],
      ['4', 'alice'],
      ['5', -32601]
    ]
  )
  t.same(
    throttled,
    ['ping', 'ping', 'invalid request', 'invalid request', 'authenticate', 'view', 'unknown method'],
    'each one is charged'
  )
  t.match(await client.ask(Array.from({ length: 21 }, () => request('ping'))), {
    id: null,
    error: { code: -32600, message: /more than 20/ }
  })
})

t.test('any text gets no answer or a valid one, and the connection lives on', async t => {
  const { listen, url } = await createService(t, {
    maxAnonymousPayloadBytes: 65536,
    maxBufferedBytes: 2 ** 30,
    fastify: { logger: false }
  })
  await listen()
  const client = await Client.connect(t, url())
  const isAnswer = (message: unknown): boolean => {
    const { jsonrpc, id, error, ...rest } = message as Answer
    return jsonrpc === '2.0' && (id === null || typeof id === 'string' || typeof id === 'number') &&
      (error === undefined ? 'result' in rest : Number.isInteger(error.code) && typeof error.message === 'string')
  }
  const almost = fc.record({
    jsonrpc: fc.constantFrom('2.0', '2.0', '1.0', 2),
    id: fc.oneof(fc.integer(), fc.string(), fc.constant(null), fc.jsonValue()),
    method: fc.oneof(fc.constantFrom('ping', 'view', 'snapshot', 'authenticate', 'explode'), fc.jsonValue()),
    params: fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.jsonValue())
  }, { requiredKeys: [] })
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.json({ maxDepth: 4 }),
    almost.map(value => JSON.stringify(value)),
    fc.array(almost, { maxLength: 4 }).map(value => JSON.stringify(value))
  ).filter(text => Buffer.byteLength(text) < 60_000)
  client.socket.once('close', () => { client.socket.emit('message', Buffer.from('"closed"')) })
  let marker = 0
  await fc.assert(fc.asyncProperty(text, async text => {
    const before = client.heard.length
    client.send(text)
    const end = `end-${marker++}`
    client.send({ jsonrpc: '2.0', id: end, method: 'ping' })
    while (!client.heard.slice(before).some(message => (message as Answer).id === end)) {
      if (client.closed !== null) throw new Error(`closed with ${client.closed.code}`)
      await new Promise(resolve => { client.socket.once('message', resolve) })
    }
    const answers = client.heard.slice(before)
    if (answers.length > 2) throw new Error(`${answers.length} answers`)
    for (const message of answers) {
      const each = Array.isArray(message) ? message : [message]
      if (each.length === 0 || !each.every(isAnswer)) throw new Error(`no answer: ${JSON.stringify(message)}`)
    }
  }), { numRuns: 300 })
  t.equal(client.closed, null)
})
