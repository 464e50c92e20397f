import Fastify, { LogController, type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { defineError } from '@marty/core'
import { headers } from '@marty/headers'
import { jsonRpc } from '@marty/json-rpc'
import { problemServerOptions, security, type SecurityOptions } from '@marty/security'
import { until } from '@marty/testing'
import { exchange, handshake, openRaw, statusOf } from './raw-socket.js'
import { optionsFor } from './service.js'

const Unavailable = defineError({
  name: 'Unavailable',
  code: 'MARTY_TEST_UNAVAILABLE',
  statusCode: 503,
  message: 'not now'
})
const FIELDS: readonly RegExp[] = [
  /\r\ncontent-security-policy: default-src 'none';/i,
  /\r\nx-content-type-options: nosniff\r\n/i,
  /\r\nx-frame-options: DENY\r\n/i,
  /\r\nreferrer-policy: no-referrer\r\n/i,
  /\r\npermissions-policy: /i,
  /\r\ncross-origin-resource-policy: same-origin\r\n/i
]

interface Listening { readonly app: FastifyInstance, readonly logs: string[], readonly authorization: string }

/** Production, because there HSTS could be sent where it must not. */
async function listening (t: Test): Promise<Listening> {
  const logs: string[] = []
  const app = Fastify({
    ...problemServerOptions,
    logger: { level: 'info', stream: { write: (line: string) => { logs.push(line) } } },
    logController: new LogController({ disableRequestLogging: true }),
    requestTimeout: 1_000,
    connectionTimeout: 0,
    http: { headersTimeout: 1_000, connectionsCheckingInterval: 100 },
    bodyLimit: 1_000,
    forceCloseConnections: true
  }) as unknown as FastifyInstance
  t.teardown(async () => { await app.close() })
  const options = optionsFor('')
  await app.register(security, { ...options, environment: 'production', audit: false } as SecurityOptions)
  await app.register(jsonRpc, { path: '/rpc', maxConnections: 1 })
  app.get('/open', { config: { security: { public: true } } }, async () => ({ open: true }))
  app.get('/mine', { config: { security: { authenticate: true } } }, async () => ({ mine: true }))
  app.get('/written', { config: { security: { permission: 'report:write' } } }, async () => ({}))
  app.get('/few', { config: { security: { authenticate: true, limits: ['few'] } } }, async () => ({}))
  app.get('/bug', { config: { security: { public: true } } }, async () => { throw new Error('bug') })
  app.get('/unavailable', { config: { security: { public: true } } }, async () => { throw new Unavailable() })
  app.get('/items/:id', { config: { security: { public: true } } }, async () => ({}))
  app.post('/echo', { config: { security: { public: true } } }, async request => request.body)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return {
    app,
    logs,
    authorization: `Authorization: Bearer ${app.auth.tokens.issue({ subject: 'alice', role: 'reader' }).token}`
  }
}

const request = (line: string, ...fields: readonly string[]): string =>
  `${line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${fields.map(field => `${field}\r\n`).join('')}\r\n`
const json = 'Content-Type: application/json'

t.test('every answer has the security headers, and every one that is no success is a problem document', async t => {
  const { app, authorization } = await listening(t)
  const first = await openRaw(app, handshake('/rpc'))
  await until(() => statusOf(first.heard()) === 101, 'the only connection')
  for (let n = 0; n < 2; n++) t.equal(statusOf(await exchange(app, request('GET /few', authorization))), 200)
  const cases: ReadonlyArray<readonly [string, number, string]> = [
    ['a success', 200, request('GET /open')],
    ['no credential', 401, request('GET /mine')],
    ['a wrong credential', 401, request('GET /mine', 'Authorization: Bearer a.b.c')],
    ['a role too few', 403, request('GET /written', authorization)],
    ['an unknown URL', 404, request('GET /nothing')],
    ['a method that the URL does not have', 404, request('DELETE /open')],
    ['a body that is too large', 413, request('POST /echo', json, 'Content-Length: 100000')],
    ['a body of unknown type', 415, request('POST /echo', 'Content-Type: text/x-unknown', 'Content-Length: 0')],
    ['a body that is no JSON', 400, request('POST /echo', json, 'Content-Length: 1') + '{'],
    ['too many requests', 429, request('GET /few', authorization)],
    ['a fault', 500, request('GET /bug')],
    ['a fault of others', 503, request('GET /unavailable')],
    ['a malformed URL', 400, request('GET /%zz?token=secret')],
    ['a parameter that is too long', 414, request(`GET /items/${'x'.repeat(300)}?token=secret`)],
    ['no HTTP', 400, 'garbage\r\n\r\n'],
    ['no HTTP behind a request', 400, 'GET /open HTTP/1.1\r\nHost: x\r\n\r\n\x00\x01\r\n\r\n'],
    [
      'two lengths',
      400,
      'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
    ],
    ['headers that do not end', 408, 'GET /open HTTP/1.1\r\nHost: x\r\n'],
    ['a body that does not end', 408, `POST /echo HTTP/1.1\r\nHost: x\r\n${json}\r\nContent-Length: 9\r\n\r\n{`],
    ['headers that are too large', 431, request('GET /open', `X-Large: ${'x'.repeat(20_000)}`)],
    ['a URL that is too large', 431, request(`GET /${'x'.repeat(20_000)}`)],
    [
      'chunk extensions that are too large',
      413,
      `POST /echo HTTP/1.1\r\nHost: x\r\n${json}\r\nTransfer-Encoding: chunked\r\n\r\n1;${'x'.repeat(17_000)}\r\n`
    ],
    ['an upgrade without a free place', 503, handshake('/rpc')],
    ['an upgrade from another origin', 403, handshake('/rpc', { Origin: 'https://evil.test' })],
    ['an upgrade with a wrong credential', 401, handshake('/mine', { Authorization: 'Bearer a.b.c' })],
    ['an upgrade of an unknown URL', 404, handshake('/nothing')],
    ['an upgrade of a malformed URL', 400, handshake('/%zz')],
    ['no upgrade where one is needed', 426, request('GET /rpc')],
    [
      'an upgrade of an unknown version',
      426,
      handshake('/rpc', { Connection: 'Upgrade, close', 'Sec-WebSocket-Version': '99' })
    ]
  ]
  for (const [what, status, text] of cases) {
    const answer = await exchange(app, text)
    // Of several, the last is the one that is looked at.
    const last = answer.slice(answer.lastIndexOf('HTTP/1.1 '))
    t.equal(statusOf(last), status, `${what}: ${last.slice(0, 40)}`)
    for (const field of FIELDS) t.match(last, field, what)
    t.notMatch(last, /strict-transport-security/i, 'HSTS never over http')
    t.notMatch(last, 'secret')
    const [head = '', body = ''] = last.split('\r\n\r\n')
    if (status === 200) continue
    t.match(head, /\r\ncontent-type: application\/problem\+json/i, what)
    t.match(JSON.parse(body), { type: String, title: String, status, detail: String, code: String }, what)
    t.equal(Number(/content-length: (\d+)/i.exec(head)?.[1]), Buffer.byteLength(body, 'latin1'))
  }
  first.socket.destroy()
})

t.test('an application that answers client errors itself goes on doing so', async t => {
  const app = Fastify({
    clientErrorHandler: (_error, socket) => { socket.end('HTTP/1.1 400 Own\r\nConnection: close\r\n\r\n') }
  }) as unknown as FastifyInstance
  t.teardown(async () => { await app.close() })
  await app.register(headers, { environment: 'production' })
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.match(await exchange(app, 'garbage\r\n\r\n'), /^HTTP\/1\.1 400 Own\r\n/)
})

t.test('a client that has gone is answered nothing, and one whose answer has begun gets no second one', async t => {
  const app = Fastify() as unknown as FastifyInstance
  t.teardown(async () => { await app.close() })
  await app.register(headers, { environment: 'production' })
  app.get('/begun', async (_request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'content-length': '100' })
    reply.raw.write('begun')
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const client = await openRaw(app, 'GET /begun HTTP/1.1\r\nHost: x\r\n\r\n')
  await until(() => client.heard().endsWith('begun'), 'the beginning')
  client.socket.write('garbage\r\n\r\n')
  await until(() => client.isClosed(), 'the connection to be closed')
  t.notMatch(client.heard(), 'problem')
})
