import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { SecurityEvent } from '@marty/core'
import { jsonRpc } from '@marty/json-rpc'
import { security } from '@marty/security'
import { until } from '@marty/testing'
import { handshake, openRaw, portOf, statusOf } from './raw-socket.js'
import { optionsFor } from './service.js'

const PARTNER = 'https://console.partner.test'

const ORDERS: Readonly<Record<string, (app: FastifyInstance) => Promise<void>>> = {
  'before @fastify/websocket': async app => {
    await register(app)
    await app.register(websocket)
  },
  'after @fastify/websocket': async app => {
    await app.register(websocket)
    await register(app)
  },
  'with @marty/json-rpc': async app => {
    await register(app)
    await app.register(jsonRpc, { path: '/rpc', allowedOrigins: [PARTNER] })
  }
}

async function register (app: FastifyInstance): Promise<void> {
  const options = optionsFor('')
  await app.register(security, {
    ...options,
    auth: { ...options.auth, sessions: { trustedOrigins: [PARTNER] } },
    limits: false,
    audit: false
  } as typeof options)
}

async function listening (
  t: Test,
  order: string
): Promise<{ app: FastifyInstance; cookie: string; events: SecurityEvent[] }> {
  const app = Fastify() as unknown as FastifyInstance
  t.teardown(async () => {
    await app.close()
  })
  await ORDERS[order]!(app)
  const events: SecurityEvent[] = []
  app.guard.addSink(event => {
    events.push(event)
  })
  app.get('/private', { websocket: true, config: { security: { authenticate: true } } }, (socket, { principal }) => {
    socket.send(`hello ${principal.id}`)
  })
  app.get('/public', { websocket: true, config: { security: { public: true } } }, socket => {
    socket.send('hello anybody')
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const headers = { authorization: `Bearer ${app.auth.tokens.issue({ subject: 'alice', role: 'reader' }).token}` }
  const session = await app.auth.sessions!.create(
    app.auth.tokens === null
      ? (undefined as never)
      : await app.guard.authenticate(headers.authorization.slice(7), { address: null, requestId: 'test' })
  )
  return { app, cookie: `__Host-session=${session.id}`, events }
}

async function answerTo (t: Test, app: FastifyInstance, path: string, fields: Record<string, string>): Promise<string> {
  const client = await openRaw(app, handshake(path, { Host: `127.0.0.1:${portOf(app)}`, ...fields }))
  t.teardown(() => { client.socket.destroy() })
  await until(
    () => /hello|\r\n\r\n\{/.test(client.heard()) || (path === '/rpc' && client.heard().startsWith('HTTP/1.1 101')),
    `an answer from ${path}`
  )
  client.socket.destroy()
  return client.heard()
}

for (const order of Object.keys(ORDERS)) {
  t.test(`a session cookie opens a WebSocket only from a page of the service: registered ${order}`, async t => {
    const { app, cookie, events } = await listening(t, order)
    const own = `http://127.0.0.1:${portOf(app)}`
    const paths = ['/private', '/public', ...(order.includes('json-rpc') ? ['/rpc'] : [])]
    const foreign: ReadonlyArray<Record<string, string>> = [
      { Origin: 'https://evil.test' },
      { Origin: 'null' },
      {},
      { Origin: `${own}.evil.test` },
      { Origin: own.replace('127.0.0.1', '127.0.0.1:80') },
      { Origin: 'https://evil.test', 'Sec-Fetch-Site': 'same-origin' },
      { Origin: 'https://evil.test', Upgrade: 'WebSocket' }
    ]
    for (const path of paths) {
      for (const fields of foreign) {
        const answer = await answerTo(t, app, path, { Cookie: cookie, ...fields })
        t.equal(statusOf(answer), 403, `${path} ${JSON.stringify(fields)}`)
        t.match(answer, /"code":"MARTY_(AUTH_CSRF_INVALID|JSON_RPC_ORIGIN_REFUSED)"/)
      }
      for (const origin of [own, PARTNER]) {
        t.equal(statusOf(await answerTo(t, app, path, { Cookie: cookie, Origin: origin })), 101, `${path} ${origin}`)
      }
    }
    t.match(await answerTo(t, app, '/private', { Cookie: cookie, Origin: own }), /hello alice/)
    t.ok(
      events.some(({ action, reason }) => action === 'GET /private' && reason === 'MARTY_AUTH_CSRF_INVALID'),
      'a refusal is on record'
    )
    t.ok(
      events.some(({ action, reason }) => action === 'GET /public' && reason === 'MARTY_AUTH_CSRF_INVALID'),
      'of a public route too'
    )
  })

  t.test(
    `without the cookie nothing hangs on the Origin of a route of the application: registered ${order}`,
    async t => {
      const { app } = await listening(t, order)
      const { token } = app.auth.tokens.issue({ subject: 'alice', role: 'reader' })
      t.equal(statusOf(await answerTo(t, app, '/private', { Authorization: `Bearer ${token}` })), 101, 'a program')
      t.equal(
        statusOf(await answerTo(t, app, '/public', { Origin: 'https://anywhere.test' })),
        101,
        'any page, of what is public'
      )
      t.equal(
        statusOf(await answerTo(t, app, '/public', { Cookie: 'theme=dark', Origin: 'https://anywhere.test' })),
        101,
        'with a cookie that is no session'
      )
    }
  )
}
