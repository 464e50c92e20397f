import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { startService } from './running-service.js'

const FIELDS: readonly RegExp[] = [
  /\r\ncontent-security-policy: default-src 'none'/i,
  /\r\nx-content-type-options: nosniff\r\n/i,
  /\r\nreferrer-policy: no-referrer\r\n/i,
  /\r\npermissions-policy: /i
]

async function exchange (port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let heard = ''
  socket.on('data', data => { heard += String(data) })
  socket.on('error', () => {})
  socket.write(text)
  await once(socket, 'close')
  return heard
}

const get = (path: string, ...fields: readonly string[]): string =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${fields.map(field => `${field}\r\n`).join('')}\r\n`

t.test('every response of the service and of its health port has the security headers; errors are problem documents', async t => {
  const service = await startService({ env: { CAMERA_SERVICE_ENVIRONMENT: 'production' } })
  t.teardown(async () => { await service.stop() })
  const cases: ReadonlyArray<readonly [string, RegExp]> = [
    [get('/health/live'), /^HTTP\/1\.1 200 /],
    [get('/nothing'), /^HTTP\/1\.1 404 /],
    [get('/%zz'), /^HTTP\/1\.1 400 /],
    ['garbage\r\n\r\n', /^HTTP\/1\.1 400 /],
    [get('/nothing', `X-Large: ${'x'.repeat(20_000)}`), /^HTTP\/1\.1 431 /],
    [get('/nothing', 'Upgrade: h2c').replace('close', 'close, Upgrade'), /^HTTP\/1\.1 404 /]
  ]
  for (const port of [service.ports.HEALTH_PORT, service.ports.SERVER_PORT]) {
    for (const [text, status] of cases) {
      if (port === service.ports.SERVER_PORT && text.includes('/health')) continue
      const answer = await exchange(port, text)
      t.match(answer, status, text.slice(0, 20))
      for (const field of FIELDS) t.match(answer, field, text.slice(0, 20))
      t.notMatch(answer, /strict-transport-security/i)
      if (!answer.startsWith('HTTP/1.1 200')) t.match(answer, /\r\ncontent-type: application\/problem\+json/i)
    }
  }
})
