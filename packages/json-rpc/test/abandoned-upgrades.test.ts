import t from 'tap'
import net from 'node:net'
import type { FastifyInstance } from 'fastify'
import { until } from '@marty/testing'
import { Client, createService, refusal } from './service.js'

/** So long that no test is saved by it. */
const upgradeTimeoutMs = 3_600_000

/** The router answers these itself, before any hook. */
const ROUTER_REFUSES: ReadonlyArray<readonly [string, number]> = [['/%zz', 400], [`/items/${'x'.repeat(300)}`, 414]]

t.test('upgrades that the router refuses leave no socket behind', async t => {
  const { app, listen, url } = await createService(t, { upgradeTimeoutMs })
  app.get('/items/:id', { config: { security: { public: true } } }, async () => 'item')
  await listen()
  for (const [path, status] of ROUTER_REFUSES) {
    const clients = await Promise.all(Array.from({ length: 100 }, async () => await askForUpgrade(url(), path)))
    t.ok(
      clients.every(({ answer }) => answer.startsWith(`HTTP/1.1 ${status} `)),
      `${path.slice(0, 10)} ${clients[0]?.answer.slice(0, 20)}`
    )
    for (const { socket } of clients) socket.end()
    await until(async () => await openSockets(app) === 0)
  }
  t.equal(await refusal(t, url()), null, 'and connections are still possible')
})

t.test('a client that stays after such a refusal does not hold up closing', async t => {
  const { app, listen, url } = await createService(t, { upgradeTimeoutMs, shutdownGraceMs: 20 })
  app.get('/items/:id', { config: { security: { public: true } } }, async () => 'item')
  await listen()
  const clients = await Promise.all(ROUTER_REFUSES.map(async ([path]) => await askForUpgrade(url(), path)))
  await until(async () => await openSockets(app) === 0)
  await app.close()
  await until(() => clients.every(({ socket }) => socket.closed))
})

t.test('a client that stays after such a refusal is hung up on', async t => {
  const { app, listen, url } = await createService(t, { upgradeTimeoutMs: 50 })
  await listen()
  const { socket } = await askForUpgrade(url(), '/%zz')
  await until(() => socket.closed)
  const client = await Client.connect(t, url())
  const { socket: another } = await askForUpgrade(url(), '/%zz')
  await until(() => another.closed)
  t.equal((await client.call('ping')).result, 'pong', 'and no connection is')
  t.equal(await openSockets(app), 1)
})

t.test('upgrades that come while the application closes do not hold it up', async t => {
  const { app, listen, url } = await createService(t, { upgradeTimeoutMs })
  const answers: string[] = []
  // Runs after the plugin's own, before the server stops.
  app.addHook('preClose', async () => {
    for (const path of ['/ws', '/%zz']) answers.push((await askForUpgrade(url(), path)).answer)
  })
  await listen()
  await app.close()
  t.match(answers, [/^HTTP\/1\.1 503 /, /^HTTP\/1\.1 400 /])
})

t.test('clients that leave while their upgrade is being decided leave nothing behind', async t => {
  const { app, listen, url } = await createService(t, { upgradeTimeoutMs })
  let decide = (): void => {}
  const decided = new Promise<void>(resolve => { decide = resolve })
  let waiting = 0
  app.get(
    '/slow',
    {
      websocket: true,
      config: { security: { public: true } },
      preValidation: async () => {
        waiting++
        await decided
      }
    },
    socket => {
      socket.send('"hello"')
    }
  )
  await listen()
  const leaving = net.connect(Number(new URL(url()).port), '127.0.0.1')
  leaving.write(upgradeOf('/slow'))
  await until(() => waiting === 1)
  leaving.end()
  await until(async () => await openSockets(app) === 0)
  const staying = Client.connect(t, url().replace('/ws', '/slow'))
  await until(() => waiting === 2)
  decide()
  const client = await staying
  await until(() => client.heard.length === 1 || client.closed !== null)
  t.equal(client.closed, null, 'who waits is served')
})

async function openSockets (app: FastifyInstance): Promise<number> {
  return await new Promise((resolve, reject) => {
    app.server.getConnections((error, count) => {
      if (error === null) resolve(count)
      else reject(error)
    })
  })
}

function upgradeOf (path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: ` +
    '13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'
}

/** Keeps its side open after the answer. */
async function askForUpgrade (
  url: string,
  path: string
): Promise<{ readonly socket: net.Socket; readonly answer: string }> {
  const socket = net.connect(Number(new URL(url).port), '127.0.0.1')
  socket.on('error', () => {})
  socket.write(upgradeOf(path))
  const answer = await new Promise<string>(resolve => {
    socket.once('data', data => {
      resolve(String(data))
    })
  })
  return { socket, answer }
}
