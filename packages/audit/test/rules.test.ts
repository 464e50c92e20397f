import t from 'tap'
import { generateKeyPairSync } from 'node:crypto'
import { connect, type AddressInfo, type Socket } from 'node:net'
import Fastify from 'fastify'
import { audit, type AuditOptions } from '@marty/audit'
import { until } from '@marty/testing'
import { build, event, linesOf, logFile, PRODUCT, type Line } from './service.js'

const authorization = 'Bearer alice'
const KEY = generateKeyPairSync('ed25519').privateKey
const REDIS = { evalsha () {}, eval () {} }

t.test('bad options stop the start and name the field', async t => {
  const product = PRODUCT
  const file = { file: '/tmp/x', mode: 'sync' }
  const x25519 = generateKeyPairSync('x25519').privateKey
  const bad: Array<[string, unknown]> = [
    ['"sink" is required', { product }],
    ['sink', { sink: 'file', product }],
    ['sink', { sink: null, product }],
    ['sink', { sink: [], product }],
    ['did you mean "stdout"', { sink: 'stdou', product }],
    ['sink.file', { sink: { file: '', mode: 'sync' }, product }],
    ['sink.mode', { sink: { file: '/tmp/x' }, product }],
    ['did you mean "rotate"', { sink: { ...file, rotat: {} }, product }],
    ['sink.rotate', { sink: { ...file, rotate: true }, product }],
    ['sink.rotate.maxBytes', { sink: { ...file, rotate: { maxBytes: 0 } }, product }],
    ['sink.rotate.maxAgeSeconds', { sink: { ...file, rotate: { maxAgeSeconds: '1' } }, product }],
    ['did you mean "maxBytes"', { sink: { ...file, rotate: { maxByte: 1 } }, product }],
    ['sink.retention.maxAgeSeconds', { sink: { ...file, retention: { maxAgeSeconds: -1 } }, product }],
    ['sink.retention.maxAge" is not known', { sink: { ...file, retention: { maxAge: 60 } }, product }],
    ['sink.retention', { sink: { ...file, retention: 60 }, product }],
    ['sink.redis', { sink: { redis: {}, stream: 's' }, product }],
    ['sink.stream', { sink: { redis: REDIS, stream: '' }, product }],
    ['sink.mode', { sink: { redis: REDIS, stream: 's', mode: 'slow' }, product }],
    ['sink.maxRecords', { sink: { redis: REDIS, stream: 's', maxRecords: Infinity }, product }],
    ['sink.retention" is not known', { sink: { redis: REDIS, stream: 's', retention: {} }, product }],
    ['checkpoints', { sink: file, checkpoints: 'x', product }],
    ['checkpoints.key', { sink: file, checkpoints: { key: 'no key' }, product }],
    ['checkpoints.key', { sink: file, checkpoints: { key: x25519 }, product }],
    ['checkpoints.every" is not known', { sink: file, checkpoints: { key: KEY, every: 60 }, product }],
    ['checkpoints.file', { sink: file, checkpoints: { key: KEY, file: '' }, product }],
    ['checkpoints.file', { sink: 'stdout', checkpoints: { key: KEY, file: '/tmp/x' }, product }],
    ['checkpoints.onCheckpoint', { sink: 'stdout', checkpoints: { key: KEY, onCheckpoint: 1 }, product }],
    ['checkpoints.onCheckpoint', { sink: 'stdout', checkpoints: { key: KEY }, product }],
    ['checkpoints.everyEvents', { sink: file, checkpoints: { key: KEY, everyEvents: 0 }, product }],
    ['sink.write', { sink: { write: 1 }, product }],
    ['redact', { sink: 'none', redact: 'x', product }],
    ['redact[1]', { sink: 'none', redact: ['pin', ''], product }],
    ['product', { sink: 'none' }],
    ['product.name', { sink: 'none', product: { version: '1' } }],
    ['product.version', { sink: 'none', product: { name: 'a' } }],
    ['product.vendor" is not known', { sink: 'none', product: { ...product, vendor: 'x' } }],
    ['did you mean "redact"', { sink: 'none', redcat: [], product }]
  ]
  for (const [field, options] of bad) {
    const app = Fastify()
    t.teardown(() => app.close())
    const registered = Promise.resolve(app.register(audit, options as AuditOptions))
    const error = await registered.then(
      () => null,
      (error: unknown) => error as { code: string; message: string }
    )
    t.equal(error?.code, 'MARTY_AUDIT_OPT_INVALID', field)
    t.ok(error?.message.includes(field), `${field}: ${error?.message}`)
  }
})

t.test('a message about a bad key does not show the key', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  const key = '-----BEGIN PRIVATE KEY-----\nhunter2'
  const options: AuditOptions = { sink: { file: '/tmp/x', mode: 'sync' }, checkpoints: { key }, product: PRODUCT }
  const error = await Promise.resolve(app.register(audit, options)).then(
    () => null,
    (error: Error) => error
  )
  t.match(error?.message, /checkpoints\.key/)
  t.notMatch(`${error?.message} ${String(error?.cause)}`, /hunter2/)
})

t.test('the options of register are accepted', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  const register = { prefix: '/v1', logLevel: 'silent', logSerializers: {} } as const
  await app.register(audit, { sink: 'none', product: PRODUCT, ...register })
  t.equal(app.audit.health().status, 'healthy')
})

t.test('a rule with an unknown value, or required without a sink that can be waited for, stops the start', async t => {
  const wrong = await build(t, {})
  wrong.get('/wrong', { config: { security: { public: true, audit: 'al' as 'all' } } }, async () => 'ok')
  await t.rejects(async () => await wrong.ready(), {
    code: 'MARTY_CORE_RULE_INVALID',
    message: /\/wrong.*audit must be one of/
  })
  for (const sink of ['none', { file: logFile(t), mode: 'async' }] as const) {
    const app = await build(t, { sink })
    app.get('/required', { config: { security: { public: true, audit: 'required' } } }, async () => 'ok')
    await t.rejects(async () => await app.ready(), {
      code: 'MARTY_CORE_RULE_INVALID',
      message: /\/required.*needs a sink/
    })
  }
  const alone = Fastify()
  t.teardown(() => alone.close())
  await alone.register(audit, { sink: 'none', product: PRODUCT })
  alone.get('/x', { config: { security: { audit: 'all' } } }, async () => 'ok')
  await t.rejects(
    async () => await alone.ready(),
    { code: 'MARTY_CORE_RULE_INVALID' },
    'audit alone does not say who may call'
  )
})

t.test('each rule is remembered as it says', async t => {
  const file = logFile(t)
  const app = await build(t, { sink: { file, mode: 'sync' } })
  app.post('/required', { config: { security: { authenticate: true, audit: 'required' } } }, async () => 'ok')
  for (const url of ['/all', '/denied', '/default', '/none']) {
    await app.inject({ url: `${url}?token=hunter2`, headers: { authorization } })
    await app.inject({ url })
  }
  await app.inject('/public')
  await app.inject({ url: '/fails', headers: { authorization } })
  await app.inject({ url: '/all', headers: { authorization: 'Bearer forged' } })
  await app.inject({ method: 'POST', url: '/required', headers: { authorization } })
  await app.close()
  const lines = linesOf(file)
  const seen = lines.map(({ activity_name: activity, status, status_code: code }) => [activity, status, code].join(' '))
  t.strictSame(
    seen.sort(),
    [
      'GET /all denied MARTY_CORE_CREDENTIAL_INVALID',
      'GET /all failure MARTY_CORE_UNAUTHENTICATED',
      'GET /all success ',
      'GET /default failure MARTY_CORE_UNAUTHENTICATED',
      'GET /denied failure MARTY_CORE_UNAUTHENTICATED',
      'GET /fails failure TEST_TEAPOT',
      'GET /public success ',
      'POST /required success ',
      'POST /required success ',
      'service.start success ',
      'service.stop success '
    ]
      .map(line => line.replace('denied MARTY_CORE_CREDENTIAL', 'failure MARTY_CORE_CREDENTIAL'))
      .sort()
  )
  t.strictSame(
    lines.filter(line => line.activity_name === 'POST /required').map(line => line['unmapped']),
    [{ phase: 'attempt' }, { status: 200 }]
  )
  t.match(
    lines.find(line => line.activity_name === 'GET /all' && line.status === 'success'),
    {
      time: Number,
      time_dt: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
      class_name: 'API Activity',
      actor: { user: { uid: 'alice', type: 'user', roles: ['viewer'] } },
      src_endpoint: { ip: '127.0.0.1' },
      resource: { uid: '/all' },
      metadata: { uid: /^[0-9a-f-]{36}$/, correlation_uid: /^req-/, product: PRODUCT }
    }
  )
  t.notMatch(JSON.stringify(lines), /hunter2|forged/)
})

t.test('what other plugins tell the guard is written; successes of operations only where the rule says so', async t => {
  const file = logFile(t)
  const app = await build(t, { sink: { file, mode: 'sync' } })
  await app.ready()
  await app.guard.emit(event({ type: 'credential', action: 'token.issue', object: 'jti-1' }))
  await app.guard.emit(event({ type: 'operation', action: 'GET /denied' }))
  await app.guard.emit(event({ type: 'operation', action: 'GET /denied', outcome: 'failure' }))
  await app.guard.emit(event({ type: 'operation', action: 'GET /all' }))
  await app.guard.emit(event({ type: 'limit', action: 'GET /none', outcome: 'denied' }))
  t.strictSame(
    linesOf(file).map(line => `${line.activity_name} ${line.status}`),
    ['service.start success', 'token.issue success', 'GET /denied failure', 'GET /all success']
  )
})

t.test('an operation that must be recorded is refused while the sink fails, and before it runs', async t => {
  let broken = false
  let ran = 0
  const lines: string[] = []
  const app = await build(t, {
    sink: {
      write (text) {
        if (broken) throw new Error('no space left')
        lines.push(text)
      }
    }
  })
  app.post('/required', { config: { security: { public: true, audit: 'required' } } }, async () => {
    ran++
    return 'ok'
  })
  t.equal((await app.inject({ method: 'POST', url: '/required' })).statusCode, 200)
  broken = true
  const refused = await app.inject({ method: 'POST', url: '/required' })
  t.equal(refused.statusCode, 503)
  t.match(refused.json(), { code: 'MARTY_AUDIT_UNAVAILABLE' })
  t.notMatch(refused.body, 'no space left')
  t.equal(ran, 1)
  t.equal((await app.inject({ url: '/all', headers: { authorization } })).statusCode, 200, 'others go on')
  await t.rejects(app.audit.record(event()), { code: 'MARTY_AUDIT_UNAVAILABLE' })
  t.match(app.audit.health(), { status: 'unhealthy', details: { sink: 'custom', lastError: 'no space left' } })
  const lost = app.audit.health().details.lostEvents
  t.ok(lost >= 3)
  broken = false
  t.equal((await app.inject({ method: 'POST', url: '/required' })).statusCode, 200)
  t.equal(ran, 2)
  t.equal(app.audit.health().status, 'healthy')
  const gap = lines
    .join('')
    .split('\n')
    .filter(line => line.includes('audit.gap'))
    .map(line => JSON.parse(line) as object)
  t.match(gap, [{ lost_events: lost, torn_bytes: 0 }], 'the loss is told in the log itself')
})

t.test('sink none writes nothing and harms nobody', async t => {
  const app = await build(t, {})
  t.equal((await app.inject({ url: '/all', headers: { authorization } })).statusCode, 200)
  await app.audit.record(event())
  t.match(app.audit.health(), { status: 'healthy', details: { sink: 'none' } })
})

t.test('a client that goes away before the answer is remembered, once', async t => {
  const file = logFile(t)
  const app = await build(t, { sink: { file, mode: 'sync' } })
  let started = 0
  let finish = (): void => {}
  app.post('/slow', { config: { security: { public: true, audit: 'all' } } }, async () => {
    started++
    await new Promise<void>(resolve => {
      finish = resolve
    })
    return 'ok'
  })
  app.get(
    '/odd',
    { config: { security: { public: true, audit: 'all' } } },
    async (_request, reply) => await reply.code(403).send('no')
  )
  app.get('/throws', { config: { security: { public: true, audit: 'all' } } }, async () => {
    throw new Error('no code')
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const post = (length: number): Socket => {
    const socket = connect(port, '127.0.0.1')
    socket.write(
      `POST /slow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n{}`
    )
    return socket
  }
  const aborted = (): Line[] => linesOf(file).filter(line => line['status_code'] === 'CLIENT_ABORTED')
  const half = post(100)
  app.server.once('request', () => {
    setImmediate(() => half.destroy())
  })
  await until(() => aborted().length === 1, 'the record of half a body')
  const whole = post(2)
  await until(() => started === 1, 'the handler')
  whole.destroy()
  await until(() => aborted().length === 2, 'the record of an answer that nobody waits for')
  finish()
  await app.inject('/odd')
  await app.inject('/throws')
  t.match(aborted()[1], {
    activity_name: 'POST /slow',
    src_endpoint: { ip: '127.0.0.1' },
    status: 'failure',
    class_uid: 6003,
    activity_id: 1,
    unmapped: { status: null }
  })
  await app.close()
  t.match(linesOf(file).slice(-3), [
    { activity_name: 'GET /odd', status: 'denied', status_code: 'HTTP_403' },
    { activity_name: 'GET /throws', status: 'failure', status_code: 'ERROR' }
  ])
  t.equal(aborted().length, 2)
})
