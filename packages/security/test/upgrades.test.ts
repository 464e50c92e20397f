import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { jsonRpc } from '@marty/json-rpc'
import { security } from '@marty/security'
import { until } from '@marty/testing'
import { exchange, handshake, openRaw, openSockets, portOf, statusOf } from './raw-socket.js'
import { optionsFor } from './service.js'

const OPTIONS = { ...optionsFor(''), limits: false, audit: false } as const

const ORDERS: Readonly<Record<string, (app: FastifyInstance) => Promise<void>>> = {
  '@marty/security first, @fastify/websocket after': async app => {
    await app.register(security, OPTIONS)
    await app.register(websocket)
  },
  '@fastify/websocket first, @marty/security after': async app => {
    await app.register(websocket)
    await app.register(security, OPTIONS)
  },
  '@marty/json-rpc': async app => {
    await app.register(security, OPTIONS)
    await app.register(jsonRpc, { path: '/rpc', upgradeTimeoutMs: 3_600_000 })
  }
}

async function listening (t: Test, register: (app: FastifyInstance) => Promise<void>): Promise<FastifyInstance> {
  const app = Fastify() as unknown as FastifyInstance
  t.teardown(async () => { await app.close() })
  await register(app)
  app.get('/socket', { websocket: true, config: { security: { authenticate: true } } }, socket => {
    socket.send('hello')
  })
  app.get('/open', { websocket: true, config: { security: { public: true } } }, socket => { socket.send('hello') })
  app.get('/plain', { config: { security: { authenticate: true } } }, async () => 'plain')
  app.get('/items/:id', { config: { security: { public: true } } }, async () => 'item')
  app.get(
    '/answers',
    {
      websocket: true,
      config: { security: { public: true } },
      preHandler: async (_request, reply) => await reply.send('an answer')
    },
    () => {}
  )
  app.get(
    '/redirects',
    {
      websocket: true,
      config: { security: { public: true } },
      preHandler: async (_request, reply) => await reply.redirect('/open')
    },
    () => {}
  )
  app.get('/hijacked', {
    websocket: true,
    config: { security: { public: true } },
    preHandler: async (_request, reply) => {
      reply.hijack()
      reply.raw.end('by hand')
    }
  }, () => {})
  app.post('/echo', { config: { security: { public: true } } }, async request => request.body)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

for (const [order, register] of Object.entries(ORDERS)) {
  t.test(`refused upgrades close their sockets: ${order}`, async t => {
    const app = await listening(t, register)
    const clients = await Promise.all(Array.from({ length: 100 }, async () => await openRaw(app, handshake('/socket'))))
    await until(() => clients.every(client => client.isClosed()), 'every refused socket to be closed by the server')
    t.ok(clients.every(client => statusOf(client.heard()) === 401), 'all with 401')
    t.match(clients[0]?.heard(), /\r\nconnection: close\r\n/i)
    t.equal(await openSockets(app), 0)
  })

  t.test(`whatever HTTP answers to an upgrade, the socket is closed after it: ${order}`, async t => {
    const app = await listening(t, register)
    const cases: ReadonlyArray<readonly [string, number]> = [
      ['/plain', 401],
      ['/nowhere', 404],
      ['/%zz', 400],
      [`/items/${'x'.repeat(300)}`, 414],
      ['/answers', 200],
      ['/redirects', 302],
      ['/hijacked', 200]
    ]
    for (const [path, status] of cases) {
      t.equal(statusOf(await exchange(app, handshake(path))), status, path.slice(0, 20))
    }
    const client = await openRaw(app, handshake('/open'))
    await until(() => client.heard().includes('hello'), 'the accepted one to be served')
    t.equal(await openSockets(app), 1)
    client.socket.destroy()
  })

  t.test(`closing does not wait for refused upgrades, nor for those nobody has decided about: ${order}`, async t => {
    const app = await listening(t, async app => {
      await register(app)
      app.get(
        '/undecided',
        {
          websocket: true,
          config: { security: { public: true } },
          preHandler: async () => {
            await new Promise(() => {})
          }
        },
        () => {}
      )
    })
    const clients = await Promise.all(
      Array.from({ length: 100 }, async (_, i) => await openRaw(app, handshake(i % 2 === 0 ? '/socket' : '/undecided')))
    )
    await until(() => clients.every((client, i) => i % 2 === 1 || client.heard() !== ''), 'the refusals')
    await app.close()
    await until(() => clients.every(client => client.isClosed()), 'all sockets to be closed')
  })

  t.test(`what is no WebSocket handshake is an ordinary request: ${order}`, async t => {
    const app = await listening(t, register)
    const cases: ReadonlyArray<readonly [string, Record<string, string>]> = [
      ['h2c', { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABkAAQAAP__' }],
      ['another protocol', { Upgrade: 'TLS/1.0' }],
      ['a list of protocols', { Upgrade: 'websocket, h2c' }],
      ['no key', { 'Sec-WebSocket-Key': '' }],
      ['an unknown version', { 'Sec-WebSocket-Version': '99' }],
      ['Connection without the word', { Connection: 'close' }]
    ]
    for (const [what, fields] of cases) {
      const client = await openRaw(app, handshake('/items/1', fields))
      await until(() => client.heard().endsWith('item'), `the answer to ${what}, not ${JSON.stringify(client.heard())}`)
      t.equal(statusOf(client.heard()), 200, what)
      client.socket.destroy()
    }
  })

  t.test(
    `an upgrade to h2c may have a body, many a connection, and what is pipelined is answered in order: ${order}`,
    async t => {
      const warnings: string[] = []
      const onWarning = ({ name }: Error): void => {
        warnings.push(name)
      }
      process.on('warning', onWarning)
      t.teardown(() => {
        process.off('warning', onWarning)
      })
      const app = await listening(t, register)
      const post = (n: number): string =>
        'POST /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: ' +
          'AAMAAABkAAQAAP__\r\nContent-Type: application/json\r\nContent-Length: ' +
          `${String(n).length + 6}\r\n\r\n{"n":${n}}`
      const client = await openRaw(app, '')
      for (let n = 0; n < 40; n++) {
        client.socket.write(post(n))
        await until(() => client.heard().includes(`{"n":${n}}`), `answer ${n}`)
      }
      const together = await openRaw(
        app,
        `GET /items/1 HTTP/1.1\r\nHost: x\r\n\r\n${post(1)}${post(2)}GET /items/2 HTTP/1.1\r\nHost: ` +
          'x\r\nConnection: close\r\n\r\n'
      )
      await until(() => together.isClosed(), 'the last answer')
      t.match(together.heard(), /item[^]*\{"n":1\}[^]*\{"n":2\}[^]*item$/)
      t.strictSame(warnings, [])
      t.equal(
        statusOf(
          await exchange(app, 'GET /items/1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n')
        ),
        200,
        'close is heard'
      )
      t.equal(
        statusOf(
          await exchange(app, 'GET /items/1 HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
        ),
        200,
        'and so is HTTP/1.0'
      )
    }
  )

  t.test(`curl --http2 is answered: ${order}`, async t => {
    const app = await listening(t, register)
    const url = `http://127.0.0.1:${portOf(app)}`
    const { stdout } = await promisify(execFile)('curl', ['-s', '-i', '--http2', `${url}/items/1`])
    t.match(stdout, /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nitem$/)
    const { stdout: body } = await promisify(execFile)('curl', ['-s', '--http2', '--json', '{"a":1}', `${url}/echo`])
    t.equal(body, '{"a":1}')
  })

  t.test(`a handshake with a body, with requests in front and behind, leaves nothing behind: ${order}`, async t => {
    const app = await listening(t, register)
    const smuggled = 'GET /items/1 HTTP/1.1\r\nHost: x\r\n\r\n'
    const behind = await exchange(app, handshake('/socket') + smuggled)
    t.equal(statusOf(behind), 401)
    t.notMatch(behind, 'item', 'nothing behind a refused handshake is read')
    const inFront = await exchange(app, 'GET /items/1 HTTP/1.1\r\nHost: x\r\n\r\n' + handshake('/socket'))
    t.match(inFront, /^HTTP\/1\.1 200 [^]*item[^]*HTTP\/1\.1 401 /)
    const withBody = await openRaw(app, handshake('/socket', { 'Content-Length': String(smuggled.length) }) + smuggled)
    await until(() => statusOf(withBody.heard()) === 401, 'the answer')
    t.notMatch(withBody.heard(), 'item', 'a body is a body')
    withBody.socket.destroy()
    await until(async () => await openSockets(app) === 0, 'no socket to be left')
  })
}

t.test('a thousand refused upgrades, some of them cut off, leave no socket', async t => {
  const app = await listening(t, ORDERS['@marty/security first, @fastify/websocket after']!)
  for (let round = 0; round < 10; round++) {
    const clients = await Promise.all(Array.from({ length: 100 }, async (_, i) => {
      const client = await openRaw(app, handshake(i % 2 === 0 ? '/socket' : '/nowhere'))
      if (i % 5 === 0) client.socket.destroy()
      return client
    }))
    await until(() => clients.every(client => client.isClosed()), 'the sockets of this round to be closed')
  }
  await until(async () => await openSockets(app) === 0, 'no socket to be left')
})

t.test('no WebSocket subprotocol is echoed that the service did not choose', async t => {
  const app = await listening(t, ORDERS['@marty/json-rpc']!)
  const offered = ['chat', 'a, b', 'not,,well-formed', 'evil\x85word']
  for (const protocol of offered) {
    const client = await openRaw(app, handshake('/rpc', { 'Sec-WebSocket-Protocol': protocol }))
    await until(() => client.heard() !== '', 'an answer')
    t.match(client.heard(), /^HTTP\/1\.1 101 /, protocol)
    t.notMatch(client.heard(), /sec-websocket-protocol/i)
    client.socket.destroy()
  }
})
