import t from 'tap'
import fc from 'fast-check'
import { runInNewContext } from 'node:vm'
import { createTokenIssuer, type TokenRequest } from '@marty/auth'
import type { Principal } from '@marty/core'
import { bearer, TOKENS } from '@marty/testing/tokens'
import { build } from './service.js'

declare module '@marty/core' {
  interface PrincipalClaims { readonly plan?: 'free' | 'gold' }
}

const INVALID = 'MARTY_AUTH_REQUEST_INVALID'
const issuer = createTokenIssuer({ ...TOKENS, maxLifetimeSeconds: 3_600 })
const messageOf = (request: unknown): string => {
  try {
    issuer.issue(request as TokenRequest)
  } catch (error) {
    return `${(error as { code: string }).code}: ${(error as Error).message}`
  }
  return 'issued'
}

t.test('members that are not known are refused, and the near one is named', async t => {
  for (const [member, near] of [
    ['ttl', 'ttlSeconds'],
    ['ttlSecond', 'ttlSeconds'],
    ['expiresIn', 'ttlSeconds'],
    ['claim', 'claims'],
    ['scops', 'scopes'],
    ['sub', 'subject'],
    ['sid', 'sessionId'],
    ['Tenant', 'tenant'],
    ['client_id', 'clientId']
  ]) {
    t.equal(
      messageOf({ subject: 'alice', [member!]: 5 }),
      `${INVALID}: "${member}" is not known; did you mean "${near}"?`
    )
  }
  t.match(
    messageOf({ subject: 'alice', audience: 'x' }),
    /"audience" is not known; known are subject, role, roles, ttlSeconds, /
  )
  for (const request of [null, undefined, 'alice', 5]) {
    t.match(messageOf(request), /^MARTY_AUTH_REQUEST_INVALID: A token is issued for an object/)
  }
  for (const member of ['__proto__', 'constructor', 'toString']) {
    t.match(messageOf(JSON.parse(`{"subject":"alice","${member}":1}`)), / is not known/)
  }
})

t.test('a token lives as long as asked, and never silently shorter', async t => {
  const app = await build(t)
  const { token, expiresAt } = app.auth.tokens.issue({ subject: 'alice', ttlSeconds: 5 })
  t.ok(expiresAt <= Date.now() + 5_000)
  t.equal(app.auth.tokens.verify(token).exp * 1000, expiresAt)
  for (const ttlSeconds of [0, -1, 1.5, 3_601, NaN, Infinity, '60']) {
    t.match(
      messageOf({ subject: 'alice', ttlSeconds }),
      /"ttlSeconds" must be an integer from 1 to 3600 \(maxLifetimeSeconds\)/
    )
  }
})

t.test('tenant and claims of the application come out on the principal, typed', async t => {
  const app = await build(t)
  app.get('/plan', { config: { security: { authenticate: true } } }, async request => {
    const plan: 'free' | 'gold' | undefined = request.principal.claims.plan
    return { plan, tenant: request.principal.claims['tenant'] }
  })
  const claims = {
    plan: 'gold',
    'https://example.com/limits': { cameras: [1, 2, null], deep: { a: { b: { c: 'é' } } } },
    on: false
  }
  const { token } = app.auth.tokens.issue({ subject: 'alice', tenant: 'acme', claims })
  t.strictSame((await app.inject({ url: '/plan', headers: bearer(token) })).json(), { plan: 'gold', tenant: 'acme' })
  t.match(app.auth.tokens.verify(token), { sub: 'alice', tenant: 'acme', ...claims })
  const principal = await app.guard.authenticate(token, { address: null, requestId: '1' })
  t.ok(Object.isFrozen(principal.claims['https://example.com/limits']))

  const { id } = await app.auth.sessions!.create(principal)
  t.strictSame(
    (await app.inject({ url: '/plan', headers: bearer(id) })).json(),
    { plan: 'gold', tenant: 'acme' },
    'a session of it has them too'
  )
  for (const tenant of ['', 5, null, 'x'.repeat(257)]) {
    t.match(messageOf({ subject: 'alice', tenant }), /"tenant" must be/)
  }
})

t.test('claims with a meaning of their own are refused by name', async t => {
  const names = [
    'iss',
    'sub',
    'aud',
    'exp',
    'nbf',
    'iat',
    'jti',
    'typ',
    'alg',
    'kid',
    'cnf',
    'sid',
    'user_id',
    'role',
    'roles',
    'scope',
    'scp',
    'kind',
    'client_id',
    'tenant',
    'permissions'
  ]
  for (const name of names) {
    t.match(
      messageOf({ subject: 'alice', claims: { [name]: 'x' } }),
      new RegExp(`^${INVALID}: "claims.${name}" has a meaning of its own`),
      name
    )
  }
  t.match(messageOf({ subject: 'alice', claims: { tenant: 'x' } }), /give "tenant" beside "claims"/)
  t.equal(
    messageOf({ subject: 'alice', claims: { team: { role: 'x', sub: 1 } } }),
    'issued',
    "deeper they are the application's"
  )
})

t.test('what JSON cannot carry, or would carry otherwise, is refused and runs nothing', async t => {
  const circle: Record<string, unknown> = {}
  circle['self'] = { circle }
  let ran = 0
  const touch = (): string => { ran++; return 'x' }
  const sparse: unknown[] = []
  sparse[5_000_000] = 1
  const cases: Record<string, unknown> = {
    list: [],
    text: 'x',
    null: null,
    date: new Date(),
    map: new Map(),
    class: new (class Plan {})(),
    'a big integer': { a: 1n },
    undefined: { a: undefined },
    function: { a: touch },
    symbol: { a: Symbol('a') },
    'symbol name': { [Symbol('a')]: 1 },
    NaN: { a: NaN },
    Infinity: { a: [-Infinity] },
    'nested date': { a: [new Date()] },
    'a getter': { get a () { return touch() } },
    'a nested getter': { a: { get b () { return touch() } } },
    'a getter in a list': { a: Object.defineProperty([1], 0, { get: touch }) },
    toJSON: { a: { toJSON: touch } },
    circle,
    'a circle of lists': (() => { const list: unknown[] = []; list.push(list); return { list } })(),
    gap: { a: new Array(3) },
    'huge list': { a: sparse },
    'own __proto__': JSON.parse('{"__proto__":{"role":"admin"}}'),
    'nested __proto__': JSON.parse('{"a":[{"__proto__":1}]}'),
    constructor: JSON.parse('{"constructor":1}'),
    'no name': { '': 1 },
    'long name': { ['x'.repeat(129)]: 1 },
    deep: { a: { b: { c: { d: { e: { f: {} } } } } } },
    'an inherited one': Object.create({ plan: 'gold' }),
    'from elsewhere': runInNewContext('new Map()'),
    large: { a: 'x'.repeat(4_090) },
    wide: Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`name${i}`, 1])),
    'many bytes': { a: 'é'.repeat(2_100) }
  }
  for (const [name, claims] of Object.entries(cases)) {
    t.match(messageOf({ subject: 'alice', claims }), /^MARTY_AUTH_REQUEST_INVALID: "claims/, name)
  }
  t.equal(ran, 0)
  t.equal(({} as { role?: string }).role, undefined)
  t.match(messageOf({ subject: 'alice', claims: { a: { b: [1, new Date()] } } }), /"claims.a.b.1" must be JSON/)
})

t.test('any JSON within bounds comes out as it went in', async t => {
  const app = await build(t)
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.string({ minLength: 1, maxLength: 20 }).map(name => `x${name}`),
        fc.jsonValue({ maxDepth: 4 })
      ),
      claims => {
        let token: string
        try {
          ;({ token } = app.auth.tokens.issue({ subject: 'alice', claims }))
        } catch (error) {
          if (JSON.stringify(claims).length > 3_000 || /"(__proto__|constructor|)":/.test(JSON.stringify(claims))) {
            return
          }
          throw error
        }
        const out = app.auth.tokens.verify(token)
        for (const [name, value] of Object.entries(claims)) {
          if (JSON.stringify(out[name]) !== JSON.stringify(value)) throw new Error(name)
        }
      }), { numRuns: 300 })
})

t.test('no token is issued that is too long to be accepted', async t => {
  const request = { subject: 'alice', roles: Array.from({ length: 32 }, (_, i) => `${i}`.padEnd(250, 'x')) }
  t.match(
    messageOf(request),
    /^MARTY_AUTH_REQUEST_INVALID: The token would have \d+ characters, and at most 8192 are accepted/
  )
})

t.test('jwtSign signs nothing that would be refused for ever, and says why', async t => {
  const app = await build(t, { maxLifetimeSeconds: 3_600 })
  app.post('/sign', { config: { security: { public: true } } }, async (request, reply) => {
    const { payload, options } = request.body as { payload: object, options?: object }
    return { token: await reply.jwtSign(payload, options ?? {}) }
  })
  const sign = async (payload: object, options?: object) =>
    (await app.inject({ method: 'POST', url: '/sign', payload: { payload, options } })).json()
  for (const payload of [{}, { role: 'viewer' }, { sub: '' }, { sub: 'x'.repeat(257) }, { user_id: 'alice' }]) {
    t.match(
      await sign(payload),
      { code: INVALID, detail: /needs "sub".*tokens\.issue\(\{ subject \}\)/ },
      JSON.stringify(payload)
    )
    t.throws(() => app.jwt.sign(payload), { code: INVALID })
  }
  await new Promise<void>(resolve => {
    app.jwt.sign({ role: 'viewer' }, {}, error => {
      t.match(error, { code: INVALID })
      resolve()
    })
  })
  for (const [payload, options, detail] of [
    [{ sub: 'alice' }, { expiresIn: '2h' }, /longer than 3600 seconds/],
    [{ sub: 'alice', roles: 'viewer' }, {}, /claim "roles"/],
    [{ sub: 'alice', role: 5 }, {}, /claim "role"/],
    [{ sub: 'alice', user_id: 'bob' }, {}, /claim "user_id"/],
    [{ sub: 'alice', jti: 5 }, {}, /claim "jti"/],
    [{ sub: 'alice', note: 'x'.repeat(8_000) }, {}, /at most 8192 are accepted/]
  ] as Array<[object, object, RegExp]>) {
    t.match(await sign(payload, options), { code: INVALID, detail }, JSON.stringify(payload).slice(0, 60))
  }

  for (const [payload, options] of [
    [{ sub: 'alice' }, undefined],
    [{}, { sub: 'alice' }],
    [{ sub: 'alice', plan: 'gold' }, { sign: { expiresIn: '1h' } }]
  ] as Array<[object, object | undefined]>) {
    const { token } = await sign(payload, options)
    const principal = (await app.inject({ url: '/who', headers: bearer(token) })).json() as Principal
    t.equal(principal.id, 'alice')
  }
  t.ok(app.jwt.sign({ sub: 'alice' }, { aud: 'another service' } as never), 'for another service')
  t.ok(app.jwt.sign({ sub: 'alice' }, { notBefore: '1m' }), 'for later')
})
