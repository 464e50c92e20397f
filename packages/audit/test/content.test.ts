import t from 'tap'
import fc from 'fast-check'
import type { SecurityEvent } from '@marty/core'
import { build, event } from './service.js'

async function recorder (t: Parameters<typeof build>[0], redact: string[] = []): Promise<(event: SecurityEvent) => Promise<{ text: string, record: Record<string, unknown> & { unmapped: object } }>> {
  let last = ''
  const app = await build(t, { sink: { write (lines) { last = lines } }, redact })
  return async given => {
    await app.audit.record(given)
    return { text: last, record: JSON.parse(last) as Record<string, unknown> & { unmapped: object } }
  }
}

t.test('no text can forge a line, hide one, or turn its direction', async t => {
  const record = await recorder(t)
  const tricks = ['a\nb', 'a\r\n{"seq":1}', '\u001b[31mred', 'a\u2028b\u2029c', '\u202Egnp.exe', '\u2066x\u2069', '\u0000', '\u0085\u009b', 'a\u200bb', '\ufeff', '\ud800', '\u007f', '","hash":"0"}\n']
  for (const [index, trick] of tricks.entries()) {
    const { text, record: written } = await record(event({
      action: trick, reason: trick, object: trick, requestId: trick, address: trick, principal: { id: trick, kind: 'user', roles: [trick] }, details: { [trick]: trick }
    }))
    t.equal(text.indexOf('\n'), text.length - 1, `trick ${index} stays in its line`)
    t.notMatch(JSON.stringify(written), /\\[nr]|[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\\u00[01]|\\ud8/, `trick ${index}, neither in the line nor in the decoded values`)
  }
  await fc.assert(fc.asyncProperty(fc.string({ unit: 'binary' }), async text => {
    const { text: line, record: written } = await record(event({ action: text, details: { note: text } }))
    // eslint-disable-next-line no-control-regex
    return line.indexOf('\n') === line.length - 1 && !/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/.test(String(written['activity_name']) + Object.keys(written.unmapped).join('') + Object.values(written.unmapped).join(''))
  }), { numRuns: 1_000 })
})

t.test('lengths are bounded', async t => {
  const record = await recorder(t)
  const huge = 'x'.repeat(1_000_000)
  const { text } = await record(event({
    action: huge,
    object: huge,
    reason: huge,
    requestId: huge,
    principal: { id: huge, kind: 'user', roles: Array.from({ length: 1_000 }, () => huge) },
    details: Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`d${index}`, huge]))
  }))
  t.ok(text.length < 32_000, `${text.length} characters`)
  t.match(text, /\[1000000 characters\]/)
})

t.test('secrets are never written, wherever they are', async t => {
  const record = await recorder(t, ['PIN'])
  const jwt = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.c2lnbmF0dXJlLWh1bnRlcjI'
  const texts: Array<[string, RegExp]> = [
    [jwt, /eyJ|c2lnbmF0/],
    [`token ${jwt} here`, /eyJ|c2lnbmF0/],
    ['Authorization: Bearer hunter2-token', /hunter2/],
    ['basic aHVudGVyMg==', /aHVudGVyMg/],
    [`ses_${'hunter2'.repeat(6)}x`, /hunter2/],
    [`cam_prod_0123456789ab_${'hunter2'.repeat(6)}x_000000`, /hunter2/],
    ['rtsp://admin:hunter2@192.0.2.7/stream', /hunter2/],
    ['password=hunter2', /hunter2/],
    ['{"password":"hunter2 and more"}', /hunter2|more/],
    ['/login?user=a&token=hunter2&x=1', /hunter2/],
    ['Cookie: a=hunter2; b=hunter2', /hunter2/],
    ['api_key: hunter2', /hunter2/],
    ['-----BEGIN PRIVATE KEY-----\nhunter2', /hunter2/],
    [`${'x'.repeat(4_090)}eyJhbGciOiJIUzI1NiJ9hunter2`, /eyJhbGci|hunter2/]
  ]
  for (const [secret, pattern] of texts) {
    const { text } = await record(event({ action: secret, object: secret, reason: secret, requestId: secret, address: secret, principal: { id: secret, kind: 'user', roles: [secret] }, details: { note: secret, [secret]: 1 } }))
    t.notMatch(text, pattern, secret.slice(0, 40))
  }
  for (const name of ['password', 'Password', 'secret', 'access_token', 'authorization', 'cookie', 'apiKey', 'api-key', 'x_private_key', 'pin', 'session_id']) {
    const { record: written } = await record(event({ details: { [name]: 'hunter2', other: 'kept' } }))
    t.strictSame(written.unmapped, { [name]: '[redacted]', other: 'kept' }, name)
  }
  t.match((await record(event({ details: { count: 3, on: true, none: null, bad: NaN as number } }))).record['unmapped'], { count: 3, on: true, none: null, bad: null })
})
