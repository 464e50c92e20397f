import { once } from 'node:events'
import t from 'tap'
import WebSocket from 'ws'
import { RpcClient, type RpcFailure } from './rpc-client.js'
import { startService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

const service = await startService({
  env: {
    CAMERA_SERVICE_CAMERAS_TEST_PATTERN: 'never',
    CAMERA_SERVICE_SERVER_MAX_CONNECTIONS: '14',
    CAMERA_SERVICE_SERVER_TRUST_PROXY: '127.0.0.2, 2001:db8::/32',
    CAMERA_SERVICE_SECURITY_RATE_LIMITING_REQUESTS_PER_MINUTE_OPERATOR: '90',
    CAMERA_SERVICE_SECURITY_RATE_LIMITING_REQUESTS_PER_MINUTE_DEFAULT: '1000',
    CAMERA_SERVICE_SECURITY_RATE_LIMITING_FAILED_LOGINS_PER_5_MINUTES: '5'
  }
})
t.teardown(() => service.stop())

/** Calls until refused; answers how many were let in, and the refusal. */
async function exhaust (client: RpcClient, most: number): Promise<{ admitted: number, refusal: RpcFailure | null }> {
  for (let admitted = 0; admitted < most; admitted++) {
    const failure = await client.call('get_camera_list').then(() => null, error => error as RpcFailure)
    if (failure !== null) return { admitted, refusal: failure }
  }
  return { admitted: most, refusal: null }
}

t.test('a viewer has 60 calls a minute and an operator the configured number, over all connections together', async t => {
  for (const [role, limit] of [['viewer', 60], ['operator', 90]] as const) {
    const token = await service.token(role, '--user', `limited-${role}`)
    const first = await service.connect()
    await first.call('authenticate', { auth_token: token })
    const { admitted, refusal } = await exhaust(first, 200)
    t.equal(admitted, limit - 1, `${role}: signing in was the first`)
    t.equal(refusal?.code, -32040)
    const wait = refusal?.data['retry_after_ms'] as number
    t.ok(Number.isInteger(wait) && wait > 0 && wait <= 60_000, `retry in ${wait} ms`)
    first.close()

    const second = await service.connect()
    await t.rejects(second.call('authenticate', { auth_token: token }), { code: -32040 }, 'a new connection brings ' +
      'no new budget')
    second.close()

    const answer = await fetch(`http://127.0.0.1:${service.ports.SERVER_PORT}/files/snapshots/x`, {
      headers: { authorization: `Bearer ${token}` }
    })
    t.equal(answer.status, 429, 'nor does HTTP')
    t.ok(Number(answer.headers.get('retry-after')) > 0)
  }
})

t.test('too many clients in total or of one address are refused before the upgrade, until one disconnects', async t => {
  const url = `ws://127.0.0.1:${service.ports.SERVER_PORT}/ws`
  const refused = async (
    options: WebSocket.ClientOptions = {}
  ): Promise<{ statusCode: number, headers: Record<string, string> }> => {
    const [, response] = (await once(new WebSocket(url, options), 'unexpected-response')) as [
      unknown,
      { statusCode: number, headers: Record<string, string> }
    ]
    t.ok(Number(response.headers['retry-after']) > 0)
    return response
  }
  const forwarded = { headers: { 'x-forwarded-for': '192.0.2.7' } }
  const clients = await Promise.all(Array.from({ length: 10 }, () => service.connect()))
  t.equal((await refused()).statusCode, 429)
  t.equal((await refused(forwarded)).statusCode, 429, 'nobody chooses his own address')
  const others = await Promise.all(Array.from({ length: 4 }, () => RpcClient.connect(url, { ...forwarded, localAddress: '127.0.0.2' })))
  t.equal((await refused({ ...forwarded, localAddress: '127.0.0.2' })).statusCode, 503)
  for (const client of [clients[0]!, others[0]!]) t.equal(await client.call('ping'), 'pong', 'those who are in stay in')
  for (const client of [...clients, ...others]) client.close()
  await Promise.all(
    [...clients, ...others].map(client =>
      client.socket.readyState === WebSocket.CLOSED ? undefined : once(client.socket, 'close')
    )
  )
  const next = await service.connect()
  t.equal(await next.call('ping'), 'pong')
  next.close()
})

t.test('a page of another origin cannot connect; an oversized frame closes with 1009', async t => {
  const url = `ws://127.0.0.1:${service.ports.SERVER_PORT}/ws`
  for (const origin of ['https://evil.example', 'null', `http://127.0.0.1:${service.ports.SERVER_PORT}.evil.example`]) {
    const socket = new WebSocket(url, { origin })
    const [, response] = await once(socket, 'unexpected-response') as [unknown, { statusCode: number }]
    t.equal(response.statusCode, 403, origin)
  }
  const own = await RpcClient.connect(url, { origin: `http://127.0.0.1:${service.ports.SERVER_PORT}` })
  t.equal(await own.call('ping'), 'pong')
  own.socket.send(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping', params: { x: 'y'.repeat(100_000) } }))
  const [code] = await once(own.socket, 'close') as [number]
  t.equal(code, 1009)
})

t.test('failed sign-ins are limited by address; a call without a token is not a failed sign-in', async t => {
  const client = await service.connect()
  for (let i = 0; i < 10; i++) await t.rejects(client.call('get_camera_list'), { code: -32001 })
  const codes: number[] = []
  for (let i = 0; i < 8; i++) {
    codes.push(
      await client.call('authenticate', { auth_token: `a.b.${i}` }).then(
        () => 0,
        (error: RpcFailure) => error.code
      )
    )
  }
  t.same(codes.slice(0, 5), Array(5).fill(-32001))
  t.same(codes.slice(5), Array(3).fill(-32040))
  client.close()
})
