import { AsyncLocalStorage } from 'node:async_hooks'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'
import type { IncomingMessage } from 'node:http'
import Fastify, { type FastifyInstance } from 'fastify'
import {
  ANONYMOUS, setProblemHandlers, createCall, createGuard, CredentialInvalid, declareRule, defineError,
  problemErrorHandler, useGuard, type Authenticator, type Call, type Check, type CheckRun, type GuardedOperation,
  type MartyError, type Principal, type SecurityEvent, type SecurityRule
} from '@marty/core'

declare module '@marty/core' {
  interface SecurityRule { readonly testRole?: string }
}

const alice: Principal = {
  ...ANONYMOUS,
  id: 'alice',
  kind: 'user',
  roles: ['reader'],
  authenticatedBy: 'jwt',
  expiresAt: Date.now() + 60_000
}

const bearer: Authenticator = {
  method: 'jwt',
  find: ({ headers }) => headers.authorization?.startsWith('Bearer ') === true ? headers.authorization.slice(7) : null,
  accepts: token => token.includes('.'),
  authenticate: async token => {
    if (token !== 'alice.token') throw new CredentialInvalid()
    return alice
  }
}

const Forbidden = defineError({ name: 'Forbidden', code: 'TEST_FORBIDDEN', statusCode: 403, message: 'no' })
const Limited = defineError({ name: 'Limited', code: 'TEST_LIMITED', statusCode: 429, message: 'slow down' })

const roleCheck: Check = {
  name: 'test-role',
  stage: 'authorize',
  keys: ['testRole'],
  compile: operation => {
    const role = operation.rule.testRole
    return role === undefined ? null : call => { if (!call.principal.roles.includes(role)) throw new Forbidden() }
  }
}

function build (strict = true): FastifyInstance {
  const app = Fastify()
  const guard = useGuard(app, { strict })
  guard.addAuthenticator(bearer)
  guard.addCheck(roleCheck)
  app.setErrorHandler(problemErrorHandler)
  t.teardown(() => app.close())
  return app
}

const route = (app: FastifyInstance, url: string, security?: SecurityRule): void => {
  app.get(url, { config: security === undefined ? {} : { security } }, async request => ({ id: request.principal.id }))
}

t.test('a route without a rule stops the start and is named', async t => {
  const app = build()
  route(app, '/ok', { public: true })
  route(app, '/forgotten')
  await t.rejects(async () => await app.ready(), { code: 'MARTY_CORE_RULE_MISSING', message: /route GET \/forgotten/ })
})

t.test('a route registered before the guard stops the start, and is denied if that is overlooked', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/early', async () => 'secret')
  useGuard(app, { strict: true })
  await t.rejects(async () => await app.ready(), {
    code: 'MARTY_CORE_ROUTE_UNGUARDED',
    message: /before the guard[^]* GET \/early \(.*guard\.test/
  })
  const answer = await app.inject('/early')
  t.equal(answer.statusCode, 403)
  t.notMatch(answer.body, 'secret')
})

t.test('without strict, routes without a rule are left alone', async t => {
  const app = build(false)
  route(app, '/plain')
  t.equal((await app.inject('/plain')).statusCode, 200)
})

t.test('rules that nobody could enforce as written stop the start, all at once', async t => {
  const app = build()
  route(app, '/typo', { testRoel: 'x' } as SecurityRule)
  route(app, '/both', { public: true, testRole: 'reader' })
  route(app, '/neither', {})
  route(app, '/false', { public: false } as unknown as SecurityRule)
  route(app, '/nobody', { authenticate: [] })
  route(app, '/method', { authenticate: ['apiKeys'] } as unknown as SecurityRule)
  const error = await app.ready().then(() => null, error => error as MartyError)
  t.equal(error?.code, 'MARTY_CORE_RULE_INVALID')
  t.match(error?.message, /\/typo: .*testRoel; did you mean "testRole"\? \(.*guard\.test/)
  for (const url of ['/both', '/neither', '/false', '/nobody', '/method']) t.match(error?.message, url)
})

t.test('401 without a credential, 401 with a wrong one, 403 without the role, 200 with it', async t => {
  const app = build()
  route(app, '/reader', { testRole: 'reader' })
  route(app, '/writer', { testRole: 'writer' })
  route(app, '/any', { authenticate: true })
  route(app, '/public', { public: true })
  const authorization = 'Bearer alice.token'

  const none = await app.inject('/reader')
  t.equal(none.statusCode, 401)
  t.equal(none.headers['www-authenticate'], 'Bearer')
  t.match(none.headers['content-type'], 'application/problem+json')
  t.match(none.json(), { code: 'MARTY_CORE_UNAUTHENTICATED', status: 401, instance: '/reader', request_id: String })

  const wrong = await app.inject({ url: '/reader?token=secret', headers: { authorization: 'Bearer forged' } })
  t.equal(wrong.statusCode, 401)
  t.equal(wrong.headers['www-authenticate'], 'Bearer error="invalid_token"')
  t.notMatch(wrong.body, 'secret')

  t.equal((await app.inject({ url: '/writer', headers: { authorization } })).statusCode, 403)
  t.same((await app.inject({ url: '/reader', headers: { authorization } })).json(), { id: 'alice' })
  t.same((await app.inject({ url: '/any', headers: { authorization } })).json(), { id: 'alice' })
  t.same((await app.inject('/public')).json(), { id: 'anonymous' })
})

t.test('HEAD inherits the rule of GET, an unknown URL is a 404, and encodings bypass nothing', async t => {
  const app = build()
  route(app, '/reader', { testRole: 'reader' })
  t.equal((await app.inject({ method: 'HEAD', url: '/reader' })).statusCode, 401)
  t.equal((await app.inject('/nothing')).statusCode, 404)
  for (const url of ['/reader?x=1', '/%72eader', '/reader#a']) t.equal((await app.inject(url)).statusCode, 401, url)
})

t.test('routes of plugins inside other scopes are guarded too', async t => {
  const app = build()
  await app.register(async scope => { route(scope, '/inner', { testRole: 'writer' }) }, { prefix: '/scope' })
  t.equal((await app.inject({ url: '/scope/inner', headers: { authorization: 'Bearer alice.token' } })).statusCode, 403)
})

t.test('routes that share one config object are operations of their own; HEAD is its GET', async t => {
  const app = build()
  const shared = { config: { security: { public: true as const } } }
  app.get('/one', shared, async () => 'one')
  app.get('/two', shared, async () => 'two')
  await app.ready()
  t.strictSame(app.guard.operations().map(operation => operation.name), ['404', 'GET /one', 'GET /two'])
  t.equal((await app.inject({ method: 'HEAD', url: '/two' })).statusCode, 200)
})

t.test('declareRule speaks for routes of third-party plugins', async t => {
  const app = build()
  declareRule(app, 'OPTIONS', '*', { public: true })
  app.options('*', async () => 'preflight')
  t.equal((await app.inject({ method: 'OPTIONS', url: '/x' })).statusCode, 200)
})

t.test('a failed authentication runs the failure checks in place of the throttle stage', async t => {
  const app = build()
  const ran: string[] = []
  app.guard.addCheck({
    name: 'limiter',
    stage: 'throttle',
    keys: [],
    compile: () => () => { ran.push('throttle') },
    compileOnAuthFailure: () => async () => {
      ran.push('failure')
      if (ran.length > 2) throw new Limited({ headers: { 'retry-after': '7' } })
    }
  })
  route(app, '/reader', { testRole: 'reader' })
  t.equal((await app.inject({ url: '/reader', headers: { authorization: 'Bearer alice.token' } })).statusCode, 200)
  t.equal((await app.inject({ url: '/reader', headers: { authorization: 'Bearer forged' } })).statusCode, 401)
  const third = await app.inject('/reader')
  t.equal(third.statusCode, 429)
  t.equal(third.headers['retry-after'], '7')
  t.same(ran, ['throttle', 'failure', 'failure'])
})

t.test('why a credential was refused is told to the sinks and the log, and not to the caller', async t => {
  const lines: string[] = []
  for (const answer of ['ours', 'theirs'] as const) {
    const app = Fastify({
      logger: {
        level: 'info',
        stream: {
          write: (line: string) => {
            lines.push(line)
          }
        }
      }
    }) as unknown as FastifyInstance
    t.teardown(() => app.close())
    const events: SecurityEvent[] = []
    useGuard(app, { strict: true }).addSink(event => { events.push(event) })
    if (answer === 'ours') app.setErrorHandler(problemErrorHandler)
    else setProblemHandlers(app)
    app.guard.addAuthenticator({
      ...bearer,
      authenticate: () => {
        throw new CredentialInvalid({ reason: 'out of date' })
      }
    })
    app.get('/', { config: { security: { authenticate: true } } }, async () => 'ok')
    const { statusCode, body } = await app.inject({ url: '/', headers: { authorization: 'Bearer x' } })
    t.equal(statusCode, 401)
    t.notMatch(body, 'out of date')
    t.match(events, [{ reason: 'MARTY_CORE_CREDENTIAL_INVALID', details: { reason: 'out of date' } }])
    t.match(JSON.parse(lines.find(line => line.includes('request refused'))!), {
      code: 'MARTY_CORE_CREDENTIAL_INVALID',
      reason: 'out of date'
    })
    lines.length = 0
  }
})

t.test('a credential without headers is judged, limited and told like any other', async t => {
  const guard = createGuard({ strict: true })
  const events: SecurityEvent[] = []
  guard.addSink(event => { events.push(event) })
  guard.addAuthenticator(bearer)
  let failures = 0
  guard.addCheck({
    name: 'limiter',
    stage: 'throttle',
    keys: [],
    compile: () => null,
    compileOnAuthFailure: () => () => { if (++failures > 1) throw new Limited() }
  })
  const declare = (name: string, rule: SecurityRule): GuardedOperation => {
    const operation = guard.operation({ name, transport: 'rpc', rule, where: `method ${name}` })
    if (operation === null) throw new Error('the operation has a rule')
    return operation
  }
  const authenticate = declare('authenticate', { authenticate: true })
  guard.compile()
  const call = (token: string): Call => createCall(authenticate, '1', '192.0.2.1', null, ANONYMOUS, token)
  t.match(await authenticate.decide(call('forged.token')), { code: 'MARTY_CORE_CREDENTIAL_INVALID' })
  t.match(await authenticate.decide(call('nonsense')), { code: 'TEST_LIMITED' })
  const right = call('alice.token')
  t.equal(await authenticate.decide(right), undefined)
  t.equal(right.principal, alice)
  t.match(events, [
    {
      type: 'authentication',
      action: 'authenticate',
      outcome: 'failure',
      reason: 'MARTY_CORE_CREDENTIAL_INVALID',
      address: '192.0.2.1'
    },
    { type: 'limit', action: 'authenticate', outcome: 'denied', reason: 'TEST_LIMITED' }
  ])
  await t.rejects(
    guard.authenticate('alice.token', { address: null, requestId: '2' }, ['apiKey']),
    { code: 'MARTY_CORE_CREDENTIAL_INVALID' },
    'only the methods asked for'
  )
  t.equal(guard.hasCredential({ headers: { authorization: 'Bearer forged' } } as IncomingMessage), true)
  t.equal(guard.hasCredential({ headers: { authorization: 'Basic forged' } } as IncomingMessage), false)
})

t.test('a credential for one purpose counts only where a rule names it', async t => {
  const app = build()
  app.guard.addAuthenticator({
    ...bearer,
    method: 'refresh',
    optIn: true,
    find: ({ headers }) => headers.authorization ?? null,
    accepts: token => token === 'once',
    authenticate: () => ({ ...alice, authenticatedBy: 'refresh' })
  })
  route(app, '/any', { authenticate: true })
  route(app, '/once', { authenticate: ['refresh'] })
  await app.ready()
  const request = (url: string) => app.inject({ url, headers: { authorization: 'once' } })
  t.equal((await request('/any')).statusCode, 401)
  t.equal((await request('/once')).statusCode, 200)
  await t.rejects(app.guard.authenticate('once', { address: null, requestId: '1' }), {
    code: 'MARTY_CORE_CREDENTIAL_INVALID'
  })
  t.match(await app.guard.authenticate('once', { address: null, requestId: '1' }, ['refresh']), {
    authenticatedBy: 'refresh'
  })
})

t.test('a check that breaks answers 500 and says nothing of why', async t => {
  const app = build()
  app.guard.addCheck({
    name: 'broken',
    stage: 'admit',
    keys: [],
    compile: op =>
      op.name === 'GET /x'
        ? () => {
            throw new Error('password=hunter2')
          }
        : null
  })
  route(app, '/x', { public: true })
  const answer = await app.inject('/x')
  t.equal(answer.statusCode, 500)
  t.notMatch(answer.body, 'hunter2')
})

t.test('a check may return its refusal: over HTTP, in order, and to those who would overlook it', async t => {
  for (const asynchronous of [false, true]) {
    const app = build()
    const ran: string[] = []
    const check = (name: string, stage: 'admit' | 'throttle', answer: () => unknown): void => {
      const run = (): unknown => {
        ran.push(name)
        return asynchronous ? Promise.resolve(answer()) : answer()
      }
      app.guard.addCheck({
        name,
        stage,
        keys: [],
        compile: () => run as CheckRun,
        compileOnAuthFailure: () => run as CheckRun
      })
    }
    let verdict: unknown
    check('first', 'admit', () => undefined)
    check('second', 'throttle', () => verdict)
    check('third', 'throttle', () => undefined)
    route(app, '/reader', { testRole: 'reader' })
    const events: SecurityEvent[] = []
    app.guard.addSink(event => { events.push(event) })
    const request = async (credential = 'Bearer alice.token') =>
      await app.inject({ url: '/reader', headers: { authorization: credential } })
    t.equal((await request()).statusCode, 200)
    t.same(ran.splice(0), ['first', 'second', 'third'])

    verdict = new Limited({ headers: { 'retry-after': '7' } })
    for (const credential of ['Bearer alice.token', 'Bearer forged']) {
      const answer = await request(credential)
      t.match(
        { status: answer.statusCode, headers: answer.headers, body: answer.json() },
        { status: 429, headers: { 'retry-after': '7' }, body: { code: 'TEST_LIMITED' } }
      )
      t.notOk(ran.splice(0).slice(2).includes('third'), 'nothing runs after a refusal')
    }
    t.match(events, [{ type: 'limit', reason: 'TEST_LIMITED' }, { type: 'limit', reason: 'TEST_LIMITED' }])

    const operation = app.guard.operation({
      name: 'view',
      transport: 'rpc',
      rule: { testRole: 'reader' },
      where: 'method view'
    })!
    const call = (): Call => createCall(operation, '1', null, null, alice)
    t.equal(await operation.decide(call()), verdict)

    // A check written without types could answer with anything; only nothing lets a call pass.
    for (verdict of [null, false, 0, '', 'fine', { allowed: true }]) {
      t.equal((await request()).statusCode, 500, JSON.stringify(verdict))
      t.match(await operation.decide(call()), {
        message: 'a check of view returned a value that is not an error: a check returns nothing or an error'
      })
    }
    await app.close()
  }
})

t.test('what is refused once the input is known is refused as well when it is returned', async t => {
  const guard = createGuard({ strict: true })
  const verdicts: Array<Error | undefined> = []
  guard.addCheck({
    name: 'later',
    stage: 'throttle',
    keys: [],
    compile: () => call => {
      call.pending = () => verdicts.shift()
    }
  })
  guard.addCheck({ name: 'afterwards', stage: 'authorize', keys: [], compile: () => () => verdicts.shift() })
  const operation = guard.operation({ name: 'view', transport: 'rpc', rule: { public: true }, where: 'method view' })!
  guard.compile()
  const finish = async (...answers: Array<Error | undefined>): Promise<Error | undefined> => {
    verdicts.splice(0, Infinity, ...answers)
    const call = createCall(operation, '1', null, null, alice, null, true)
    t.equal(operation.decide(call), undefined)
    return await operation.decide(call)
  }
  t.match(await finish(new Limited()), { code: 'TEST_LIMITED' })
  t.match(await finish(undefined, new Limited()), { code: 'TEST_LIMITED' })
  t.equal(await finish(undefined, undefined), undefined)
})

t.test('a pending decision holds back the checks behind it, whether they are synchronous or not', async t => {
  for (const isAsync of [false, true]) {
    const guard = createGuard({ strict: true })
    const ran: string[] = []
    let refuses = ''
    const run = (name: string): Error | undefined => {
      ran.push(name)
      return name === refuses ? new Limited() : undefined
    }
    const answer = (name: string): ReturnType<CheckRun> => isAsync ? Promise.resolve(run(name)) : run(name)
    const add = (name: string, compile: Check['compile']): void => {
      guard.addCheck({ name, stage: 'authorize', keys: [], compile })
    }
    add('first', () => () => answer('first'))
    add('second', () => call => {
      call.pending = call => {
        call.pending = () => answer('second, once more')
        return answer('second, later')
      }
      return answer('second')
    })
    add('third', () => call => {
      call.pending = () => answer('third, later')
      return answer('third')
    })
    const operation = guard.operation({ name: 'view', transport: 'rpc', rule: { public: true }, where: 'method view' })!
    guard.compile()
    const order = ['first', 'second', 'second, later', 'second, once more', 'third', 'third, later']

    const call = createCall(operation, '1', null, null, alice, null, true)
    t.equal(await operation.decide(call), undefined)
    t.strictSame(ran.splice(0), ['first', 'second'])
    t.equal(await operation.decide(call), undefined)
    t.strictSame(ran.splice(0), order.slice(2))
    t.equal(call.pending, null)

    for (refuses of order) {
      const refused = createCall(operation, '2', null, null, alice, null, true)
      const verdict = await operation.decide(refused)
      if (verdict === undefined) t.match(await operation.decide(refused), { code: 'TEST_LIMITED' }, refuses)
      t.strictSame(ran.splice(0), order.slice(0, order.indexOf(refuses) + 1), 'nothing runs after a refusal')
      t.equal(refused.pending, null, 'a refused call has nothing left to decide')
      await operation.decide(refused)
      t.equal(ran.splice(0)[0], 'first', 'and is decided from the start')
    }
  }
})

t.test('refusals are told to the sinks; a failing sink harms nobody', async t => {
  const app = build()
  const events: SecurityEvent[] = []
  app.guard.addSink(async () => { throw new Error('sink is full') })
  app.guard.addSink(event => { events.push(event) })
  route(app, '/writer', { testRole: 'writer' })
  await app.inject({ url: '/writer', headers: { authorization: 'Bearer alice.token' } })
  await app.inject('/writer')
  t.match(events, [
    {
      type: 'authorization',
      action: 'GET /writer',
      outcome: 'denied',
      reason: 'TEST_FORBIDDEN',
      principal: { id: 'alice' }
    },
    { type: 'authentication', outcome: 'failure', reason: 'MARTY_CORE_UNAUTHENTICATED' }
  ])
})

t.test('requests of one turn are decided in order, each in its own context, and none waits for another', async t => {
  const app = Fastify()
  const contexts = new AsyncLocalStorage<string>()
  app.addHook('onRequest', (request, _reply, done) => {
    contexts.run((request.query as { n: string }).n, done)
  })
  const decided: Array<string | undefined> = []
  const never = new Promise<void>(() => {})
  const guard = useGuard(app, { strict: true })
  guard.addAuthenticator(bearer)
  guard.addCheck({
    name: 'test-context',
    stage: 'admit',
    keys: [],
    compile: () => call => {
      const mine = contexts.getStore()
      decided.push(mine)
      if (!call.request!.url!.endsWith(`n=${mine}`)) throw new TypeError('a context of somebody else')
      if (mine === '3') throw new Forbidden()
      if (mine === '5') return never
      if (mine === '7') return new Limited()
    }
  })
  app.get('/', { config: { security: { public: true } } }, async () => contexts.getStore())
  app.get('/who', { config: { security: { authenticate: true } } }, async () => contexts.getStore())
  t.teardown(() => app.close())
  await app.ready()
  const answers: string[] = []
  const ask = (n: number): void => {
    void app
      .inject({ url: `${n % 2 === 0 ? '/who' : '/'}?n=${n}`, headers: { authorization: 'Bearer alice.token' } })
      .then(({ statusCode, body }) => {
        answers[n] = statusCode === 200 ? body : String(statusCode)
      })
  }
  // More than are decided at once.
  for (let n = 0; n < 40; n++) ask(n)
  while (answers.filter(answer => answer !== undefined).length < 39) {
    await new Promise(resolve => setImmediate(resolve))
  }
  const all = Array.from({ length: 40 }, (_, n) => String(n))
  const expected: Array<string | undefined> = [...all]
  expected[3] = '403'
  expected[5] = undefined
  expected[7] = '429'
  t.same([...answers], expected)
  t.same(decided, all)
})

t.test('a live connection whose principal has expired is refused and becomes anonymous', async t => {
  const guard = createGuard({ strict: true })
  guard.addAuthenticator(bearer)
  guard.addCheck(roleCheck)
  const operation = guard.operation({
    name: 'view',
    transport: 'rpc',
    rule: { testRole: 'reader' },
    where: 'method view'
  })
  if (operation === null) throw new Error('the operation has a rule')
  t.match(
    operation.decide(createCall(operation, '0', null, null, alice)),
    { code: 'MARTY_CORE_RULE_INVALID' },
    'not before it is ready'
  )
  guard.compile()
  t.equal(operation.decide(createCall(operation, '1', null, null, alice)), undefined, 'decides without a promise')
  const call = createCall(operation, '2', null, null, { ...alice, expiresAt: Date.now() - 1 })
  t.match(operation.decide(call), { code: 'MARTY_CORE_CREDENTIAL_INVALID', rpcCode: -32001 })
  t.equal(call.principal, ANONYMOUS)
  t.match(operation.decide(createCall(operation, '3', null, null, ANONYMOUS)), { code: 'MARTY_CORE_UNAUTHENTICATED' })
  await t.rejects(guard.authenticate('nonsense', { address: null, requestId: '4' }), {
    code: 'MARTY_CORE_CREDENTIAL_INVALID'
  })
  t.throws(() => guard.operation({ name: 'late', transport: 'rpc', rule: undefined, where: 'method late' }), {
    code: 'MARTY_CORE_RULE_MISSING'
  })
})

t.test('a public operation without limits compiles to nothing', async t => {
  const app = build()
  route(app, '/public', { public: true })
  await app.ready()
  t.equal(app.guard.operations().find(operation => operation.name === 'GET /public')?.checks, 0)
})

t.test('a fault tells where it was made, a refusal does not, and nobody else\'s stack is shortened', async t => {
  const Refusal = defineError({ name: 'Refusal', code: 'MARTY_TEST_REFUSAL', statusCode: 429, message: 'not now' })
  const Fault = defineError({ name: 'Fault', code: 'MARTY_TEST_FAULT', statusCode: 500, message: 'broken' })
  t.match(new Refusal().stack, /^\w+: not now$/)
  t.match(new Fault().stack, /guard\.test/)
  t.match(new Error('plain').stack, /guard\.test/)
  // Node can make this unchangeable; then everything has a stack.
  const code =
    'Object.freeze(Error); const { defineError } = await import(process.argv[1]); process.stdout.write(new ' +
      '(defineError({ name: "A", code: "A", statusCode: 403, message: "no" }))().stack)'
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '-e',
    code,
    import.meta.resolve('@marty/core')
  ])
  t.match(stdout, /^\w+: no\n +at /)
})

t.test('a refusal is the same problem document by every way, unless the application answers errors itself', async t => {
  const Picky = defineError({ name: 'Picky', code: 'MARTY_TEST_PICKY', statusCode: 409, message: 'not "you"' })
  const refuse: Check = {
    name: 'test-picky',
    stage: 'authorize',
    keys: ['testRole'],
    compile: () => () => {
      throw new Picky({
        headers: { 'retry-after': '7', 'set-cookie': 'gone=; Max-Age=0' },
        data: { why: ['é', undefined], absent: undefined, status: 1, code: 'forged' }
      })
    }
  }
  const ask = async (
    configure: (app: FastifyInstance) => void
  ): Promise<{ status: number; headers: Record<string, unknown>; body: string; sent: number; errors: number }> => {
    const app = Fastify({ genReqId: () => 'same' })
    t.teardown(() => app.close())
    let [sent, errors] = [0, 0]
    configure(app)
    useGuard(app).addAuthenticator(bearer)
    app.guard.addCheck(refuse)
    app.addHook('onSend', async () => {
      sent++
    })
    app.addHook('onError', async () => {
      errors++
    })
    app.get('/picky', { config: { security: { testRole: 'reader' } } }, async () => 'never')
    const {
      statusCode: status,
      headers,
      body
    } = await app.inject({ url: '/picky?token=secret', headers: { authorization: 'Bearer alice.token' } })
    return { status, headers, body, sent, errors }
  }
  const plain = await ask(() => {})
  const ours = await ask(setProblemHandlers)
  const wrapped = await ask(app => {
    app.setErrorHandler((error, request, reply) => problemErrorHandler(error, request, reply))
  })
  for (const answer of [plain, ours, wrapped]) {
    t.match(answer, {
      status: 409,
      sent: 1,
      headers: {
        'retry-after': '7',
        'set-cookie': 'gone=; Max-Age=0',
        'content-type': 'application/problem+json; charset=utf-8'
      }
    })
    t.strictSame(JSON.parse(answer.body), {
      why: ['é', null],
      type: 'urn:marty:error:MARTY_TEST_PICKY',
      title: 'Conflict',
      status: 409,
      detail: 'not "you"',
      instance: '/picky',
      code: 'MARTY_TEST_PICKY',
      request_id: 'same'
    })
  }
  t.same(
    [plain, ours, wrapped].map(({ errors }) => errors),
    [0, 0, 1],
    'a refusal is an answer: hooks for errors hear of it only where errors are answered'
  )
  const own = await ask(app => {
    app.setErrorHandler(
      async (error: MartyError, _, reply) => await reply.code(error.statusCode).send({ own: error.message })
    )
  })
  t.match(own, { status: 409, body: '{"own":"not \\"you\\""}' })
})
