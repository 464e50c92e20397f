import t from 'tap'
import { loggerOptions, redactText, secretFreeSerializers } from '@marty/audit'
import Fastify from 'fastify'

const JWT = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.c2lnbmF0dXJlLWh1bnRlcjI'
const SECRETS = ['hunter2', 'eyJ', 'c2lnbmF0', 'aHVudGVyMg']

t.test('no secret gets into the log of a real service', async t => {
  let text = ''
  const app = Fastify({
    logger: {
      level: 'trace',
      stream: {
        write (line: string) {
          text += line
        }
      },
      ...loggerOptions()
    }
  })
  t.teardown(() => app.close())
  app.get('/reset/:token', async request => {
    request.log.info(
      {
        headers: request.headers,
        password: 'hunter2',
        user: { name: 'alice', token: 'hunter2' },
        request: { headers: request.headers }
      },
      'asked with password=hunter2'
    )
    request.log.info('%s came with %s', 'alice', `Bearer ${JWT}`)
    request.log.warn(new Error('password=hunter2'))
    request.log.warn(null)
    request.log.warn({ err: new Error('rtsp://admin:hunter2@192.0.2.7 does not answer') })
    throw Object.assign(new Error('token=hunter2 is wrong'), { statusCode: 400, code: 'TEST' })
  })
  await app.inject({
    url: `/reset/${JWT}?token=hunter2&user=alice&hunter2`,
    headers: {
      authorization: `Bearer ${JWT}`,
      'proxy-authorization': 'Basic aHVudGVyMg==',
      cookie: '__Host-session=hunter2',
      'x-api-key': 'hunter2',
      'user-agent': 'test'
    }
  })
  for (const secret of SECRETS) t.notMatch(text, secret, secret)
  const lines = text
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, unknown>)
  t.match(
    lines.find(line => line['msg'] === 'incoming request'),
    {
      req: {
        method: 'GET',
        url: '/reset/[redacted]?token=[redacted]&user=[redacted]&[redacted]',
        host: String,
        remoteAddress: '127.0.0.1'
      }
    }
  )
  t.match(
    lines.find(line => line['msg'] === 'request completed'),
    { res: { statusCode: 400 } }
  )
  t.match(
    lines.find(line => String(line['msg']).startsWith('rtsp')),
    { err: { type: 'Error', message: 'rtsp://[redacted]@192.0.2.7 does not answer', stack: /^Error: rtsp/ } }
  )
  t.match(text, /"name":"alice"/)
  t.match(text, /"user-agent":"test"/)
})

t.test('the serializers take what is incomplete', t => {
  t.strictSame(secretFreeSerializers.err({} as Error), {
    type: undefined,
    message: '',
    code: undefined,
    statusCode: undefined,
    stack: ''
  })
  t.match(secretFreeSerializers.req({} as Parameters<typeof secretFreeSerializers.req>[0]), { url: '' })
  t.end()
})

t.test('texts that hold no secret stay as they are', t => {
  for (const text of [
    'GET /cameras/:id',
    'camera:view',
    'take_snapshot',
    'list_all_informations',
    'https://example.org/a?b=c',
    'alice@example.org',
    'the tokens are many',
    'MARTY_AUTH_TOKEN_INVALID',
    '/houses_available_everywhere',
    '2001:db8::1',
    'basicly'
  ]) {
    t.equal(redactText(text), text)
  }
  t.equal(redactText('x'.repeat(10_000)).length, 4096)
  t.end()
})
