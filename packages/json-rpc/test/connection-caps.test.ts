import { spawn } from 'node:child_process'
import net from 'node:net'
import t from 'tap'
import { useGuard } from '@marty/core'
import { until } from '@marty/testing'
import { Client, createService, refusal } from './service.js'

const from = (address: string): { headers: { 'x-forwarded-for': string } } => ({
  headers: { 'x-forwarded-for': address }
})
const trustProxy = { fastify: { trustProxy: '127.0.0.1' } }

t.test('by default ten from one address and a hundred in all, counted exactly when all come at once', async t => {
  const { app, listen, url } = await createService(t, trustProxy)
  await listen()
  const attempts = await Promise.all(Array.from({ length: 15 }, async () => await refusal(t, url(), from('192.0.2.0'))))
  t.equal(attempts.filter(answer => answer === null).length, 10)
  for (const answer of attempts.filter(answer => answer !== null)) {
    t.match(answer, {
      status: 429,
      headers: { 'content-type': /^application\/problem\+json/, 'retry-after': '5', 'sec-websocket-accept': undefined },
      body: { status: 429, code: 'MARTY_JSON_RPC_ADDRESS_CONNECTIONS_EXHAUSTED' }
    })
  }
  const others = await Promise.all(
    Array.from({ length: 95 }, async (_, i) => await refusal(t, url(), from(`192.0.2.${1 + (i % 19)}`)))
  )
  t.equal(others.filter(answer => answer === null).length, 90)
  t.ok(
    others.every(
      answer =>
        answer === null ||
        (answer.status === 503 &&
          answer.headers['retry-after'] === '5' &&
          answer.body['code'] === 'MARTY_JSON_RPC_CONNECTIONS_EXHAUSTED')
    )
  )
  t.equal(app.rpc.connections().length, 100)
  app.rpc.connections()[0]!.close(1000, 'enough')
  await until(() => app.rpc.connections().length === 99)
  t.equal(await refusal(t, url(), from('192.0.2.200')), null, 'one place for the one that came free')
  t.match(await refusal(t, url(), from('192.0.2.200')), { status: 503 })
})

t.test('what is no upgrade yet takes no place; what is one takes it until it is decided', async t => {
  const { app, listen, url } = await createService(t, { maxConnections: 2, upgradeTimeoutMs: 300 })
  let asked = 0
  useGuard(app).addCheck({
    name: 'slow',
    stage: 'admit',
    keys: [],
    compile: ({ name }) => name === 'connect' ? async () => { asked++; await new Promise(() => {}) } : null
  })
  await listen()
  const open = async (text: string): Promise<net.Socket> => {
    const socket = net.connect(Number(new URL(url()).port), '127.0.0.1')
    t.teardown(() => { socket.destroy() })
    socket.on('error', () => {})
    await new Promise<void>(resolve => { socket.write(text, () => { resolve() }) })
    return socket
  }
  const upgrade =
    'GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: ' +
      '13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer alice:viewer\r\n'
  for (let i = 0; i < 5; i++) await open(upgrade)
  t.equal(
    (await Promise.all([refusal(t, url()), refusal(t, url()), refusal(t, url())])).filter(answer => answer === null)
      .length,
    2,
    'headers that do not end'
  )
  for (const connection of app.rpc.connections()) connection.close(1000, 'enough')
  await until(() => app.rpc.connections().length === 0)

  const undecided = [await open(`${upgrade}\r\n`), await open(`${upgrade}\r\n`)]
  await until(() => asked === 2)
  t.match(await refusal(t, url()), { status: 503 })
  await until(() => undecided.every(socket => socket.closed))
  t.equal(await refusal(t, url()), null, 'and after the time for an upgrade the place is free')
})

t.test('a client that is gone without a word gives its place back', async t => {
  const { app, listen, url } = await createService(t, { maxConnectionsPerAddress: 1, pingIntervalMs: 50 })
  await listen()
  const program = `new (await import('ws')).WebSocket(${JSON.stringify(url())}).on('open', () => console.log('open'))`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(() => { child.kill('SIGKILL') })
  await new Promise(resolve => { child.stdout.once('data', resolve) })
  t.match(await refusal(t, url()), { status: 429 })
  child.kill('SIGSTOP')
  await until(() => app.rpc.connections().length === 0)
  const next = await Client.connect(t, url())
  t.equal((await next.call('ping')).result, 'pong')
})
