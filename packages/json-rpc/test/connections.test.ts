import t from 'tap'
import net from 'node:net'
import { WebSocket } from 'ws'
import { until } from '@marty/testing'
import { Client, createService, refusal } from './service.js'

t.test('pages of foreign origins are refused before the upgrade', async t => {
  const { listen, url } = await createService(t, { allowedOrigins: ['https://console.example'] })
  await listen()
  const own = url().replace('ws://', 'http://').replace('/ws', '')
  for (const origin of [
    'https://evil.example',
    'null',
    'https://console.example.evil.example',
    'http://console.example',
    `${own}0`,
    `${own}/`,
    'file://',
    'https://Console.example'
  ]) {
    const answer = await refusal(t, url(), { headers: { origin } })
    t.match(
      answer,
      { status: 403, headers: { 'content-type': /problem\+json/ }, body: { code: 'MARTY_JSON_RPC_ORIGIN_REFUSED' } },
      origin
    )
  }
  t.equal(await refusal(t, url(), { headers: { origin: 'https://console.example' } }), null)
  t.equal(await refusal(t, url(), { headers: { origin: own } }), null, 'its own pages')
  t.equal(await refusal(t, url()), null, 'no browser at all')
})

t.test('its own pages too when sameOrigin is off', async t => {
  const { listen, url } = await createService(t, { sameOrigin: false })
  await listen()
  t.match(await refusal(t, url(), { headers: { origin: url().replace('ws://', 'http://').replace('/ws', '') } }), {
    status: 403
  })
})

t.test('one connection too many is refused in HTTP, and its place is free again afterwards', async t => {
  const { app, listen, url } = await createService(t, { maxConnections: 2 })
  await listen()
  const first = await Client.connect(t, url())
  await Client.connect(t, url())
  t.match(await refusal(t, url()), {
    status: 503,
    headers: { 'retry-after': '5', 'content-type': /problem\+json/ },
    body: { code: 'MARTY_JSON_RPC_CONNECTIONS_EXHAUSTED' }
  })
  t.equal(app.rpc.connections().length, 2)
  first.socket.close()
  await until(async () => await refusal(t, url()) === null)
})

t.test('one address gets only its share', async t => {
  const { listen, url } = await createService(t, { maxConnectionsPerAddress: 1, fastify: { trustProxy: true } })
  await listen()
  const from = (address: string): { headers: { 'x-forwarded-for': string } } => ({
    headers: { 'x-forwarded-for': address }
  })
  await Client.connect(t, url(), from('192.0.2.1'))
  t.match(await refusal(t, url(), from('192.0.2.1')), {
    status: 429,
    headers: { 'retry-after': '5' },
    body: { code: 'MARTY_JSON_RPC_ADDRESS_CONNECTIONS_EXHAUSTED' }
  })
  t.match(await refusal(t, url(), from('::ffff:192.0.2.1')), { status: 429 }, 'the same address, written otherwise')
  t.equal(await refusal(t, url(), from('192.0.2.2')), null)
  t.equal(await refusal(t, url(), from('2001:db8::1')), null)
  t.match(await refusal(t, url(), from('2001:DB8:0:0:ffff::2')), { status: 429 }, 'the same /64')
  t.equal(await refusal(t, url(), from('2001:db8:0:1::1')), null, 'another /64')
})

t.test('upgrades at the same moment, refused ones and broken ones leave the count true', async t => {
  const { app, listen, url } = await createService(t, { maxConnections: 3 })
  await listen()
  const attempts = await Promise.all(
    Array.from(
      { length: 12 },
      async () => await refusal(t, url(), { headers: { authorization: 'Bearer alice:viewer' } })
    )
  )
  t.equal(attempts.filter(answer => answer === null).length, 3)
  t.ok(attempts.every(answer => answer === null || answer.status === 503))
  for (const connection of app.rpc.connections()) connection.close(1000, 'enough')
  await until(() => app.rpc.connections().length === 0)
  for (let round = 0; round < 6; round++) {
    t.equal((await refusal(t, url(), { headers: { authorization: 'Bearer a:b' } }))?.status, 401)
    t.match(await rawUpgrade(url(), 'Sec-WebSocket-Key: short'), /^HTTP\/1\.1 426 /)
    await hangUpDuringUpgrade(url())
  }
  await until(async () => {
    const again = await Promise.all(Array.from({ length: 3 }, async () => await refusal(t, url())))
    const all = again.every(answer => answer === null)
    if (!all) for (const connection of app.rpc.connections()) connection.close(1000, 'again')
    return all
  })
  t.equal((await refusal(t, url()))?.status, 503)
})

t.test('other URLs are not upgraded, and this one is nothing else', async t => {
  const { app, listen, url } = await createService(t)
  app.get('/plain', { config: { security: { public: true } } }, async () => 'plain')
  app.get('/closed', { config: { security: { testRole: 'viewer' } } }, async () => 'closed')
  await listen()
  t.match(await refusal(t, url().replace('/ws', '/plain')), {
    status: 400,
    body: { code: 'MARTY_JSON_RPC_UPGRADE_UNEXPECTED' }
  })
  t.match(await refusal(t, url().replace('/ws', '/closed')), { status: 401 })
  t.match(await refusal(t, url().replace('/ws', '/nowhere')), { status: 404 })
  t.match(
    await rawUpgrade(url().replace('/ws', '/closed'), 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=='),
    /^HTTP\/1\.1 401 /,
    'and hung up on'
  )
  const answer = await app.inject('/ws')
  t.equal(answer.statusCode, 426)
  t.equal(answer.headers.upgrade, 'websocket')
  t.equal((await app.inject('/plain')).body, 'plain')
})

t.test('frames that break the rules close the connection with the right code', async t => {
  const { listen, url } = await createService(t, { maxPayloadBytes: 8192 })
  await listen()
  const cases: ReadonlyArray<readonly [string, number, (socket: WebSocket) => void]> = [
    [
      'binary',
      1003,
      socket => {
        socket.send(Buffer.from('{}'))
      }
    ],
    [
      'not UTF-8',
      1007,
      socket => {
        socket.send(Buffer.from([0xff, 0xfe]), { binary: false })
      }
    ],
    [
      '4 KiB and more before authentication',
      1009,
      socket => {
        socket.send('x'.repeat(4097))
      }
    ],
    [
      'more than ever allowed',
      1009,
      socket => {
        socket.send('x'.repeat(8193))
      }
    ],
    [
      'in a thousand pieces',
      1008,
      socket => {
        for (let part = 0; part < 1000; part++) socket.send('x', { fin: false })
      }
    ]
  ]
  for (const [what, code, act] of cases) {
    const client = await Client.connect(t, url())
    act(client.socket)
    await until(() => client.closed !== null)
    t.equal(client.closed?.code, code, what)
  }
  const known = await Client.connect(t, url(), { headers: { authorization: 'Bearer alice:viewer' } })
  t.equal(
    (await known.call('snapshot', { device: 'x'.repeat(5000) })).error,
    undefined,
    'authenticated, the larger size counts'
  )
  known.socket.send('x'.repeat(8193))
  await until(() => known.closed !== null)
  t.equal(known.closed?.code, 1009)
})

t.test('a client that does not read is closed with 1013, others are not held up', async t => {
  const { app, listen, url } = await createService(t, { maxBufferedBytes: 1024 })
  await listen()
  const slow = await Client.connect(t, url())
  const quick = await Client.connect(t, url())
  slow.socket.pause()
  const text = 'x'.repeat(64 * 1024)
  const isSlow = app.rpc.connections()[0]
  await until(() => {
    app.rpc.notify('news', { text }, { to: connection => connection === isSlow })
    return isSlow?.notify('more') === false
  })
  t.equal((await quick.call('ping')).result, 'pong')
  slow.socket.resume()
  await until(() => slow.closed !== null)
  t.equal(slow.closed?.code, 1013)
})

t.test('a dead client is noticed by its missing pongs, a busy one is not', async t => {
  const { app, listen, url } = await createService(t, { pingIntervalMs: 20, maxConcurrent: 1 })
  let finish = (): void => {}
  app.rpc.method({
    name: 'slow',
    security: { public: true },
    handler: async () => {
      await new Promise<void>(resolve => {
        finish = resolve
      })
    }
  })
  await listen()
  const dead = await Client.connect(t, url(), { autoPong: false })
  const busy = await Client.connect(t, url())
  const slow = busy.call('slow')
  const next = busy.call('ping')
  await until(() => dead.closed !== null)
  t.equal(dead.closed?.code, 1006)
  finish()
  t.equal((await slow).result, null)
  t.equal((await next).result, 'pong')
  t.equal(app.rpc.connections().length, 1)
})

t.test('the work of one connection is bounded, and the rest waits in order', async t => {
  const { app, listen, url } = await createService(t, { maxConcurrent: 3 })
  let running = 0
  let most = 0
  const waiting: Array<() => void> = []
  app.rpc.method({
    name: 'slow',
    security: { public: true },
    handler: async () => {
      most = Math.max(most, ++running)
      await new Promise<void>(resolve => { waiting.push(resolve) })
      running--
    }
  })
  await listen()
  const client = await Client.connect(t, url())
  const calls = Promise.all(Array.from({ length: 10 }, async () => await client.call('slow')))
  for (let ended = 0; ended < 10; ended++) {
    await until(() => waiting.length > 0)
    waiting.shift()?.()
  }
  t.ok((await calls).every(({ result }) => result === null))
  t.equal(most, 3)
})

t.test('notifications reach whom they are for', async t => {
  const { app, listen, url } = await createService(t)
  await listen()
  const stranger = await Client.connect(t, url())
  const viewer = await Client.connect(t, url(), { headers: { authorization: 'Bearer alice:viewer' } })
  const operator = await Client.connect(t, url(), { headers: { authorization: 'Bearer bob:operator' } })
  t.equal(app.rpc.notify('camera_status_update', { device: 'camera0' }), 2, 'by default only the authenticated')
  t.equal(app.rpc.notify('secret', {}, { to: ({ principal }) => principal.roles.includes('operator') }), 1)
  await until(() => viewer.heard.length === 1 && operator.heard.length === 2)
  t.strictSame(viewer.heard[0], { jsonrpc: '2.0', method: 'camera_status_update', params: { device: 'camera0' } })
  for (const client of [stranger, viewer, operator]) t.equal((await client.call('ping')).result, 'pong')
  t.same([stranger.heard.length, viewer.heard.length, operator.heard.length], [1, 2, 3])
})

t.test('handlers see who calls, from where, and when nobody listens any more', async t => {
  const { app, listen, url } = await createService(t)
  let seen: { address: string | null, same: boolean, signal: AbortSignal } | null = null
  app.rpc.method({
    name: 'look',
    security: { testRole: 'viewer' },
    handler: async (_params, { address, connection, signal, principal }) => {
      seen = { address, same: connection !== null && connection.principal === principal, signal }
      connection?.notify('seen')
      await new Promise(resolve => { signal.addEventListener('abort', resolve) })
    }
  })
  await listen()
  const client = await Client.connect(t, url(), { headers: { authorization: 'Bearer alice:viewer' } })
  client.send({ jsonrpc: '2.0', id: 1, method: 'look' })
  await until(() => client.heard.length > 0)
  t.strictSame(client.heard[0], { jsonrpc: '2.0', method: 'seen' })
  t.match(seen, { address: '127.0.0.1', same: true, signal: { aborted: false } })
  client.socket.terminate()
  await until(() => seen?.signal.aborted === true)
  t.equal(app.rpc.connections().length, 0)
})

t.test('closing the application lets running calls finish, then says goodbye', async t => {
  const { app, listen, url } = await createService(t)
  let finish = (): void => {}
  const handler = async (): Promise<void> => await new Promise<void>(resolve => { finish = resolve })
  app.rpc.method({ name: 'slow', security: { public: true }, handler })
  await listen()
  const busy = await Client.connect(t, url())
  const idle = await Client.connect(t, url())
  const slow = busy.call('slow')
  const ping = busy.call('ping')
  t.equal((await ping).result, 'pong')
  const closing = app.close()
  await until(() => app.rpc.notify('x', {}, { to: () => { finish(); return false } }) === 0)
  await closing
  t.equal((await slow).result, null)
  await until(() => busy.closed !== null && idle.closed !== null)
  t.match([busy.closed, idle.closed], [{ code: 1001 }, { code: 1001 }])
})

t.test('closing never waits for a client that does not answer or a call that does not end', async t => {
  const { app, listen, url } = await createService(t, { shutdownGraceMs: 20 })
  app.rpc.method({ name: 'forever', security: { public: true }, handler: async () => { await new Promise(() => {}) } })
  await listen()
  const client = await Client.connect(t, url())
  client.send({ jsonrpc: '2.0', id: 1, method: 'forever' })
  const deaf = await Client.connect(t, url())
  deaf.socket.pause()
  t.equal((await client.call('ping')).result, 'pong')
  await app.close()
  await until(() => app.rpc.connections().length === 0)
})

t.test('sockets without an address work', async t => {
  const { app } = await createService(t, { maxConnectionsPerAddress: 1 })
  await app.ready()
  for (let round = 0; round < 2; round++) {
    const socket = await app.injectWS('/ws')
    const answer = new Promise<string>(resolve => {
      socket.once('message', data => {
        resolve((data as Buffer).toString())
      })
    })
    socket.send(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' }))
    t.match(JSON.parse(await answer), { result: 'pong' })
    socket.terminate()
  }
})

function portOf (url: string): number { return Number(new URL(url).port) }

async function rawUpgrade (url: string, header: string): Promise<string> {
  const socket = net.connect(portOf(url), '127.0.0.1')
  socket.write(
    `GET ${new URL(url).pathname} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: ` +
      `websocket\r\nSec-WebSocket-Version: 13\r\n${header}\r\n\r\n`
  )
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return text
}

async function hangUpDuringUpgrade (url: string): Promise<void> {
  const socket = net.connect(portOf(url), '127.0.0.1')
  await new Promise<void>(resolve => { socket.once('connect', () => { resolve() }) })
  socket.write(
    'GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: ' +
      '13\r\nAuthorization: Bearer alice:viewer\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'
  )
  socket.resetAndDestroy()
}
