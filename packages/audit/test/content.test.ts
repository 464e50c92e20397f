import t from 'tap'
import fc from 'fast-check'
import { OCSF_VERSION } from '@marty/audit'
import type { SecurityEvent } from '@marty/core'
import { build, event } from './service.js'

async function recorder (
  t: Parameters<typeof build>[0],
  redact: string[] = []
): Promise<
  (event: SecurityEvent) => Promise<{ text: string; record: Record<string, unknown> & { unmapped: object } }>
> {
  let last = ''
  const app = await build(t, {
    sink: {
      write (lines) {
        last = lines
      }
    },
    redact
  })
  return async given => {
    await app.audit.record(given)
    return { text: last, record: JSON.parse(last) as Record<string, unknown> & { unmapped: object } }
  }
}

t.test('no text can forge a line, hide one, or turn its direction', async t => {
  const record = await recorder(t)
  const tricks = [
    'a\nb',
    'a\r\n{"seq":1}',
    '\u001b[31mred',
    'a\u2028b\u2029c',
    '\u202Egnp.exe',
    '\u2066x\u2069',
    '\u0000',
    '\u0085\u009b',
    'a\u200bb',
    '\ufeff',
    '\ud800',
    '\u007f',
    '","hash":"0"}\n'
  ]
  for (const [index, trick] of tricks.entries()) {
    const { text, record: written } = await record(
      event({
        action: trick,
        reason: trick,
        object: trick,
        requestId: trick,
        address: trick,
        principal: { id: trick, kind: 'user', roles: [trick] },
        details: { [trick]: trick }
      })
    )
    t.equal(text.indexOf('\n'), text.length - 1, `trick ${index} stays in its line`)
    t.notMatch(
      JSON.stringify(written),
      /\\[nr]|[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\\u00[01]|\\ud8/,
      `trick ${index}, neither in the line nor in the decoded values`
    )
  }
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: 'binary' }), async text => {
      const { text: line, record: written } = await record(event({ action: text, details: { note: text } }))

      return (
        line.indexOf('\n') === line.length - 1 &&
        // eslint-disable-next-line no-control-regex
        !/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/.test(
          String(written['activity_name']) +
            Object.keys(written.unmapped).join('') +
            Object.values(written.unmapped).join('')
        )
      )
    }),
    { numRuns: 1_000 }
  )
})

t.test('lengths are bounded', async t => {
  const record = await recorder(t)
  const huge = 'x'.repeat(1_000_000)
  const { text } = await record(
    event({
      action: huge,
      object: huge,
      reason: huge,
      requestId: huge,
      principal: { id: huge, kind: 'user', roles: Array.from({ length: 1_000 }, () => huge) },
      details: Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`d${index}`, huge]))
    })
  )
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
    ['Authorization: ApiKey id hunter2', /hunter2/],
    ['authorization=hunter2 and hunter2', /hunter2/],
    ['Bearer%20hunter2', /hunter2/],
    ['["authorization","hunter2 hunter2"]', /hunter2/],
    [`ref_${'hunter2'.repeat(9)}`, /hunter2/],
    [`my-app_prod-eu_0123456789ab_${'hunter2'.repeat(6)}x_000000`, /hunter2/],
    [`x-api-key: x_cam_dev_0123456789ab_${'hunter2'.repeat(6)}x_000000`, /hunter2/],
    ['rtsp://admin:hunt/hunter2@hunter2@192.0.2.7/stream', /hunter2/],
    [`rtsp://admin:${'hunter2'.repeat(700)}@192.0.2.7/stream`, /hunter2/],
    ['{\\"password\\":\\"hunter2 x\\"}', /hunter2/],
    ['passphrase: hunter2 correct horse hunter2', /hunter2/],
    ['/cb?code=hunter2&state=hunter2#sig=hunter2', /hunter2/],
    ['/cb?refresh_token%3Dhunter2', /hunter2/],
    ['client_secret=hunter2', /hunter2/],
    ['session_id=hunter2', /hunter2/],
    ['Set-Cookie: __Host-s=hunter2; Path=/; hunter2', /hunter2/],
    ['DPoP hunter2', /hunter2/],
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
    const { text } = await record(
      event({
        action: secret,
        object: secret,
        reason: secret,
        requestId: secret,
        address: secret,
        principal: { id: secret, kind: 'user', roles: [secret] },
        details: { note: secret, [secret]: 1 }
      })
    )
    t.notMatch(text, pattern, secret.slice(0, 40))
  }
  for (const name of [
    'password',
    'Password',
    'secret',
    'access_token',
    'authorization',
    'cookie',
    'apiKey',
    'api-key',
    'x_private_key',
    'pin',
    'session_id'
  ]) {
    const { record: written } = await record(event({ details: { [name]: 'hunter2', other: 'kept' } }))
    t.strictSame(written.unmapped, { [name]: '[redacted]', other: 'kept' }, name)
  }
  t.match(
    (await record(event({ details: { count: 3, on: true, none: null, bad: NaN as number } }))).record['unmapped'],
    { count: 3, on: true, none: null, bad: null }
  )
})

t.test('records have the names and numbers of OCSF', async t => {
  const record = await recorder(t)
  const cases: Array<[Partial<SecurityEvent>, object]> = [
    [
      { type: 'authentication', action: 'authenticate.jwt' },
      {
        category_uid: 3,
        class_uid: 3002,
        class_name: 'Authentication',
        activity_id: 1,
        type_uid: 300201,
        severity_id: 1,
        status_id: 1,
        status: 'success',
        user: { uid: 'alice' }
      }
    ],
    [
      { type: 'authentication', action: 'GET /x', outcome: 'failure', reason: 'MARTY_CORE_UNAUTHENTICATED' },
      { class_uid: 3002, severity_id: 3, status_id: 2, status: 'failure', status_code: 'MARTY_CORE_UNAUTHENTICATED' }
    ],
    [
      { type: 'session', action: 'session.create' },
      { class_uid: 3002, activity_id: 1 }
    ],
    [
      { type: 'session', action: 'session.revoke' },
      { class_uid: 3002, activity_id: 2, type_uid: 300202 }
    ],
    [
      { type: 'session', action: 'session.renew' },
      { class_uid: 3002, activity_id: 99 }
    ],
    [
      { type: 'credential', action: 'account.lock' },
      { class_uid: 3001, activity_id: 9 }
    ],
    [
      { type: 'authorization', action: 'GET /x', outcome: 'denied' },
      { class_uid: 3003, class_name: 'Authorize Session', activity_id: 99, status: 'denied', status_id: 2 }
    ],
    [
      { type: 'credential', action: 'token.issue' },
      { class_uid: 3001, class_name: 'Account Change', activity_id: 1, user: { uid: 'alice' } }
    ],
    [
      { type: 'credential', action: 'api_key.revoke' },
      { class_uid: 3001, activity_id: 6 }
    ],
    [
      { type: 'credential', action: 'api_key.rotate' },
      { class_uid: 3001, activity_id: 99 }
    ],
    [
      { type: 'policy', action: 'policy.reload' },
      { category_uid: 3, class_uid: 3004, class_name: 'Entity Management', activity_id: 3 }
    ],
    [
      { type: 'operation', action: 'DELETE /cameras/:id', object: '/cameras/7' },
      {
        category_uid: 6,
        class_uid: 6003,
        class_name: 'API Activity',
        activity_id: 4,
        api: { operation: 'DELETE /cameras/:id' },
        resource: { uid: '/cameras/7' }
      }
    ],
    [
      { type: 'limit', action: 'GET /x', outcome: 'denied' },
      { class_uid: 6003, activity_id: 99, api: { operation: 'GET /x' } }
    ],
    [
      { type: 'service', action: 'service.start' },
      { class_uid: 6002, class_name: 'Application Lifecycle', activity_id: 3 }
    ],
    [
      { type: 'other' as 'service', outcome: 'odd' as 'failure' },
      { class_uid: 0, class_name: 'Base Event', status: 'failure' }
    ]
  ]
  const uids = new Set<unknown>()
  for (const [changes, expected] of cases) {
    const before = Date.now()
    const { record: written } = await record(event(changes))
    t.match(
      written,
      {
        activity_name: changes.action ?? 'test.act',
        metadata: { version: OCSF_VERSION, correlation_uid: 'r-1' },
        actor: { user: { uid: 'alice', type: 'user', roles: ['viewer'] } },
        ...expected
      },
      `${changes.type} ${changes.action}`
    )
    t.ok((written['time'] as number) >= before && (written['time'] as number) <= Date.now())
    t.equal(new Date(written['time'] as number).toISOString(), written['time_dt'])
    uids.add((written['metadata'] as { uid: string }).uid)
  }
  t.equal(uids.size, cases.length)
})

t.test('what comes again and again is written right each time, also when there is too much of it to keep', async t => {
  const record = await recorder(t)
  for (let i = 0; i < 5_000; i++) {
    const id = `user-${i % 3_000}`
    const { record: written } = await record(
      event({ principal: { id, kind: 'user', roles: [] }, action: `act.${i % 2_500}` })
    )
    if (
      JSON.stringify(written['actor']) !== JSON.stringify({ user: { uid: id, type: 'user', roles: [] } }) ||
      written['activity_name'] !== `act.${i % 2_500}`
    ) {
      t.fail(id)
    }
  }
  t.pass('all of them')
})

t.test('a cut never halves a character', async t => {
  const record = await recorder(t)
  for (let i = 250; i < 260; i++) {
    const { record: written } = await record(event({ object: `${'x'.repeat(i)}\u{1f600}${'y'.repeat(20)}` }))
    t.notMatch((written['resource'] as { uid: string }).uid, /[\ud800-\udbff](?![\udc00-\udfff])/)
  }
})
