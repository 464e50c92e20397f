import Fastify, { LogController, type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { defineError } from '@marty/core'
import { jsonRpc } from '@marty/json-rpc'
import { problemServerOptions, security, type SecurityOptions } from '@marty/security'
import { until } from '@marty/testing'
import { exchange, handshake, openRaw, statusOf } from './raw-socket.js'
import { optionsFor } from './service.js'

const Unavailable = defineError({
  name: 'Unavailable',
  code: 'MARTY_TEST_UNAVAILABLE',
  statusCode: 503,
  message: 'the store of limits does not answer'
})

interface Line {
  readonly level: number
  readonly code?: string
  readonly count?: number
  readonly err?: unknown
  readonly msg: string
}

async function listening (t: Test): Promise<{ app: FastifyInstance, lines: () => readonly Line[] }> {
  const written: string[] = []
  const app = Fastify({
    ...problemServerOptions,
    logger: { level: 'info', stream: { write: (line: string) => { written.push(line) } } },
    logController: new LogController({ disableRequestLogging: true })
  }) as unknown as FastifyInstance
  t.teardown(async () => { await app.close() })
  await app.register(security, { ...optionsFor(''), audit: false } as SecurityOptions)
  await app.register(jsonRpc, { path: '/rpc', maxConnections: 1, maxConnectionsPerAddress: 1 })
  app.get('/socket', { websocket: true, config: { security: { authenticate: true } } }, () => {})
  app.get('/mine', { config: { security: { authenticate: true } } }, async () => 'mine')
  app.get('/unavailable', { config: { security: { public: true } } }, async () => {
    throw new Unavailable({ cause: new Error('redis') })
  })
  app.post('/echo', { config: { security: { public: true } } }, async request => request.body)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, lines: () => written.map(line => JSON.parse(line) as Line) }
}

/** What a stranger can send, and the code of the refusal. */
const FLOODS: ReadonlyArray<readonly [string, string, number]> = [
  [handshake('/rpc'), 'MARTY_JSON_RPC_CONNECTIONS_EXHAUSTED', 503],
  [handshake('/rpc', { Origin: 'https://evil.test' }), 'MARTY_JSON_RPC_ORIGIN_REFUSED', 403],
  [handshake('/socket'), 'MARTY_CORE_UNAUTHENTICATED', 401],
  ['GET /unavailable HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 'MARTY_TEST_UNAVAILABLE', 503],
  ['GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 'FST_ERR_BAD_URL', 400],
  ['garbage\r\n\r\n', 'MARTY_CORE_REQUEST_MALFORMED', 400],
  [
    'POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{',
    'FST_ERR_CTP_INVALID_JSON_BODY',
    400
  ]
]
const EACH = 150

t.test('refused requests, however many, add a few lines per reason to the log, and the rest are counted', async t => {
  const { app, lines } = await listening(t)
  const first = await openRaw(app, handshake('/rpc'))
  await until(() => statusOf(first.heard()) === 101, 'the only connection')
  const before = lines().length
  for (const [text, code, status] of FLOODS) {
    for (let round = 0; round < EACH / 50; round++) {
      const answers = await Promise.all(Array.from({ length: 50 }, async () => await exchange(app, text)))
      t.ok(
        answers.every(answer => statusOf(answer) === status),
        `${code}: ${answers[0]?.slice(0, 40)}`
      )
    }
  }
  first.socket.destroy()
  await app.close()
  const flood = lines().slice(before)
  t.strictSame(
    flood.filter(({ level }) => level >= 50),
    [],
    'nothing is an error'
  )
  t.strictSame(
    flood.filter(({ err }) => err !== undefined),
    [],
    'nothing has a stack'
  )
  for (const [, code] of FLOODS) {
    const ofCode = flood.filter(line => line.code === code)
    // A busy machine may spread one flood over several windows of ten seconds, each with its own lines.
    const windows = Math.max(1, ofCode.filter(({ count }) => count !== undefined).length)
    const single = ofCode.filter(({ count }) => count === undefined).length
    t.ok(single <= windows * 10, `${code}: ${single} lines in ${windows} windows`)
    t.equal(single + ofCode.reduce((sum, { count = 0 }) => sum + count, 0), EACH, `${code}: none is lost`)
  }
})

t.test('uploads that are broken off are refusals too', async t => {
  const { app, lines } = await listening(t)
  for (let round = 0; round < 40; round++) {
    const client = await openRaw(
      app,
      'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{'
    )
    client.socket.resetAndDestroy()
  }
  await exchange(app, 'GET /mine HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  await app.close()
  t.strictSame(lines().filter(({ level, err }) => level >= 50 || err !== undefined), [])
  t.ok(lines().filter(({ count }) => count === undefined).length < 40, 'and few lines')
})
