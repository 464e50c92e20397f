import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { createRequire } from 'node:module'
import t from 'tap'
import {
  ANONYMOUS,
  createCall,
  defineError,
  problemErrorHandler,
  useGuard,
  type Authenticator,
  type SecurityEvent
} from '@marty/core'
import { explainMethod, rbac, type Permission, type RbacOptions } from '@marty/rbac'

// The build that the product uses.
const { Enforcer } = createRequire(import.meta.url)('casbin') as typeof import('casbin')

const POLICY = `version: 1
resources:
  doc: { actions: [read, edit, erase], attributes: { owner: text, class: text, size: number, tags: list } }
  policy: { actions: [explain] }
roles:
  reader: { allow: ['doc:read'] }
  author:
    inherits: [reader]
    allow:
      - { permission: 'doc:edit', when: resource.owner == principal.id }
      - { permission: 'doc:erase', when: 'resource.owner == principal.id and principal.kind == "service"' }
  chief: { inherits: [author], allow: ['doc:edit', 'policy:explain'] }
  banned: { deny: ['doc:edit'] }
environments:
  development: {}
  production: { aliases: [prod] }
`

/** `Bearer ada:author,reader` is Ada with two roles. */
const byRoles: Authenticator = {
  method: 'jwt',
  find: ({ headers }) => headers.authorization?.slice('Bearer '.length) ?? null,
  accepts: () => true,
  authenticate (token) {
    const [id = '', roles = ''] = token.split(':')
    return { ...ANONYMOUS, id, kind: 'user', roles: roles.split(','), authenticatedBy: 'jwt' }
  }
}

interface Service {
  readonly app: FastifyInstance
  readonly events: SecurityEvent[]
  readonly logs: string[]
}

async function build (options: Partial<RbacOptions> = {}): Promise<Service> {
  const events: SecurityEvent[] = []
  const logs: string[] = []
  const app = Fastify({
    logger: {
      level: 'info',
      stream: {
        write: (line: string) => {
          logs.push(line)
        }
      }
    }
  }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  const guard = useGuard(app, { strict: true })
  guard.addAuthenticator(byRoles)
  guard.addSink(event => {
    events.push(event)
  })
  app.setErrorHandler(problemErrorHandler)
  await app.register(rbac, { policy: POLICY, environment: 'production', ...options })
  return { app, events, logs }
}

const as = (who: string) => ({ authorization: `Bearer ${who}` })
const put = (who: string, url: string, payload: object | string = {}) =>
  ({ method: 'PUT', url, headers: { ...as(who), 'content-type': 'application/json' }, payload }) as const

const turn = async (): Promise<void> => {
  await new Promise(resolve => {
    setImmediate(resolve)
  })
}

const Missing = defineError({
  name: 'Missing',
  code: 'TEST_MISSING',
  statusCode: 404,
  message: 'There is no such document'
})
const Down = defineError({ name: 'Down', code: 'TEST_DOWN', statusCode: 503, message: 'The store is down' })

t.test('a loader that fails opens nothing, and tells nobody whether there is something', async t => {
  const { app, events, logs } = await build()
  const loads: Record<string, () => unknown> = {
    throws: () => {
      throw new Error('password=hunter2')
    },
    rejects: async () => {
      throw new Error('password=hunter2')
    },
    throwsNothing: async () => await Promise.reject(undefined), // eslint-disable-line prefer-promise-reject-errors
    text: () => 'ada',
    list: async () => [{ owner: 'ada' }],
    bool: () => true,
    down: () => {
      throw new Down()
    },
    missing: () => {
      throw new Missing()
    },
    foreign: async () => ({ owner: 'bob' }),
    empty: () => ({}),
    inherited: () => Object.create({ owner: 'ada' }),
    null: () => null,
    undefined: () => undefined
  }
  let ran = 0
  for (const [name, when] of Object.entries(loads)) {
    app.put(`/${name}`, { config: { security: { permission: 'doc:edit', when: when as () => null } } }, async () => {
      ran++
    })
  }
  const answer = async (name: string): Promise<{ status: number; body: string }> => {
    const { statusCode: status, body } = await app.inject(put('ada:author', `/${name}`))
    return { status, body: body.replaceAll(/"(instance|request_id)":"[^"]*",?/g, '') }
  }
  for (const name of ['throws', 'rejects', 'throwsNothing', 'text', 'list', 'bool']) {
    const { status, body } = await answer(name)
    t.equal(status, 500, name)
    t.notMatch(body, /hunter2/)
  }
  t.ok(
    logs.some(line => line.includes('MARTY_RBAC_ATTRIBUTES_FAILED') && line.includes('hunter2')),
    'the log says why'
  )
  t.ok(logs.some(line => line.includes('it loaded a list')))
  t.match(await answer('down'), { status: 503, body: /TEST_DOWN/ })
  const refused = await answer('foreign')
  t.equal(refused.status, 403)
  for (const name of ['missing', 'null', 'undefined', 'empty', 'inherited']) {
    t.same(await answer(name), refused, `${name} is as somebody else's`)
  }
  t.equal(ran, 0)
  t.equal(events.length, 13, 'each refusal is told once')
  t.match(events.at(-1), {
    type: 'authorization',
    outcome: 'denied',
    reason: 'MARTY_RBAC_DENIED',
    principal: { id: 'ada' }
  })
})

t.test('the loader sees params and body, and runs only when the answer hangs on it', async t => {
  const { app } = await build()
  const loaded: unknown[] = []
  const when = async (request: FastifyRequest<{ Params: { owner: string } }>): Promise<{ owner: string }> => {
    loaded.push(request.body)
    return { owner: request.params.owner }
  }
  let parsed = 0
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
    parsed++
    done(null, JSON.parse(body as string))
  })
  await app.register(
    async child => {
      child.put('/:owner', { config: { security: { permission: 'doc:edit', when } } }, async () => 'done')
      child.put(
        '/both/:owner',
        { config: { security: { permission: 'doc:edit', roles: ['chief'], when } } },
        async () => 'done'
      )
      child.put('/never/:owner', { config: { security: { permission: 'doc:erase', when } } }, async () => 'done')
    },
    { prefix: '/docs' }
  )
  const status = async (who: string, url: string): Promise<number> =>
    (await app.inject(put(who, `/docs${url}`, { title: 'x' }))).statusCode

  t.equal((await app.inject({ method: 'PUT', url: '/docs/ada' })).statusCode, 401)
  t.equal(await status('ada:reader', '/ada'), 403)
  t.equal(await status('ada:banned,author', '/ada'), 403)
  t.equal(await status('ada:author', '/never/ada'), 403, 'a user is no service, whatever the document')
  t.equal(await status('ada:author', '/both/ada'), 403, 'the role is missing')
  t.equal((await app.inject(put('ada:reader', '/docs/ada', '{not json'))).statusCode, 403)
  t.same([loaded.length, parsed], [0, 0], 'refused before the body is parsed')

  t.equal(await status('ada:chief', '/bob'), 200)
  t.equal(loaded.length, 0, 'allowed whatever the document')
  t.equal(await status('ada:author', '/bob'), 403)
  t.equal(await status('ada:author', '/ada'), 200)
  t.same(loaded, [{ title: 'x' }, { title: 'x' }])
})

t.test('GET, its HEAD, hooks of the application and handlers all come after the decision', async t => {
  const { app } = await build()
  const seen: string[] = []
  app.addHook('preHandler', async (_request, reply) => {
    seen.push('hook')
    return await reply.send('from a cache')
  })
  app.get<{ Params: { owner: string } }>(
    '/docs/:owner',
    {
      config: {
        security: {
          permission: 'doc:edit',
          when: (request: FastifyRequest<{ Params: { owner: string } }>) => ({ owner: request.params.owner })
        }
      }
    },
    async () => {
      seen.push('handler')
    }
  )
  for (const method of ['GET', 'HEAD'] as const) {
    t.equal((await app.inject({ method, url: '/docs/bob', headers: as('ada:author') })).statusCode, 403, method)
    t.same(seen, [])
    t.equal((await app.inject({ method, url: '/docs/ada', headers: as('ada:author') })).statusCode, 200, method)
    t.same(seen.splice(0), ['hook'])
  }
})

t.test('a loader that never answers lets nothing happen, and others are answered', async t => {
  const { app } = await build()
  let ran = 0
  const late: Array<() => void> = []
  app.put(
    '/docs/:owner',
    {
      config: {
        security: {
          permission: 'doc:edit',
          when: async () =>
            await new Promise<null>(resolve => {
              late.push(() => {
                resolve(null)
              })
            })
        }
      }
    },
    async () => {
      ran++
    }
  )
  app.get('/docs', { config: { security: { permission: 'doc:read' } } }, async () => 'list')
  const waiting = (async () => await app.inject(put('ada:author', '/docs/ada')))()
  while (late.length === 0) await turn()
  t.equal((await app.inject({ url: '/docs', headers: as('ada:author') })).statusCode, 200)
  t.equal(ran, 0)
  late[0]!()
  t.equal((await waiting).statusCode, 403)
  t.equal(ran, 0)
})

t.test('a transport that cannot wait for the input decides with what is known', async t => {
  const { app } = await build()
  const operation = app.guard.operation({
    name: 'edit',
    transport: 'rpc',
    rule: { permission: 'doc:edit', when: () => ({ owner: 'ada' }) },
    where: 'method edit'
  })!
  await app.ready()
  const caller = { ...ANONYMOUS, id: 'ada', kind: 'user' as const, roles: ['author'] }
  t.match(operation.decide(createCall(operation, '1', null, null, caller)), { code: 'MARTY_RBAC_DENIED' })
  const call = createCall(operation, '1', null, null, caller, null, true)
  t.equal(operation.decide(call), undefined)
  t.not(call.pending, null)
  t.equal(await operation.decide(call), undefined)
  t.equal(call.pending, null, 'nothing is left to decide')
})

t.test('rules with a loader that nobody could use stop the start', async t => {
  const { app } = await build()
  app.get('/a', { config: { security: { permission: 'doc:edit', when: 'owner' as never } } }, async () => 'done')
  app.get('/b', { config: { security: { authenticate: true, when: () => null } } }, async () => 'done')
  await t.rejects(async () => await app.ready(), {
    code: 'MARTY_CORE_RULE_INVALID',
    message: /GET \/a: security\.when must be a function[^\n]*\n.*GET \/b: security\.when needs security\.permission/
  })
})

t.test('hooks for plain routes: 401 for nobody, 403 for who may not, unknown names at the start', async t => {
  const { app, events } = await build()
  for (const [make, message] of [
    [() => app.requirePermission('doc:raed'), /requirePermission names "doc:raed".*did you mean "doc:read"/],
    [() => app.requirePermission('doc:*'), /requirePermission "doc:\*" must name one permission/],
    [() => app.requirePermission(undefined as never), /requirePermission must be a text/],
    [() => app.requireRoles('cheif'), /requireRoles names "cheif".*did you mean "chief"/],
    [() => app.requireRoles(), /requireRoles must be a list of at least one role/]
  ] as const) {
    t.throws(make, { code: 'MARTY_CORE_RULE_INVALID', message })
  }

  const security = { authenticate: true } as const
  app.get('/read', { config: { security }, onRequest: app.requirePermission('doc:read') }, async request =>
    request.can('doc:edit', { owner: 'ada' })
  )
  app.get('/chiefs', { config: { security }, preHandler: [app.requireRoles('chief', 'banned')] }, async () => 'done')
  app.get(
    '/open',
    { config: { security: { public: true } }, preHandler: app.requirePermission('doc:read') },
    async () => 'done'
  )
  await app.register(async child => {
    child.addHook('preHandler', child.requireRoles('chief'))
    child.get('/child', { config: { security } }, async () => 'done')
  })
  const status = async (url: string, who?: string): Promise<number> =>
    (await app.inject({ url, headers: who === undefined ? {} : as(who) })).statusCode
  t.equal(await status('/read'), 401)
  t.equal(await status('/open'), 401)
  t.equal(await status('/read', 'ada:stranger'), 403)
  t.match(events.at(-1), {
    type: 'authorization',
    action: 'GET /read',
    outcome: 'denied',
    reason: 'MARTY_RBAC_DENIED',
    principal: { id: 'ada' }
  })
  t.equal(await status('/chiefs', 'ada:author'), 403)
  t.equal(await status('/child', 'ada:author'), 403)
  t.equal(await status('/read', 'ada:author'), 200)
  t.equal(await status('/chiefs', 'ada:chief'), 200)
  t.equal(await status('/child', 'ada:chief'), 200)
  t.equal((await app.inject({ url: '/read', headers: as('ada:author') })).json(), true)
  t.equal((await app.inject({ url: '/read', headers: as('bob:author') })).json(), false)
  t.throws(() => app.guard.can({ ...ANONYMOUS }, 'doc:raed' as Permission), { code: 'MARTY_RBAC_PERMISSION_UNKNOWN' })
})

t.test('what a caller may see', async t => {
  const {
    app: { rbac }
  } = await build()
  const ada = { roles: ['author'], id: 'ada', kind: 'user' } as const
  t.throws(() => rbac.permitted(ada, 'raed'), {
    code: 'MARTY_RBAC_PERMISSION_UNKNOWN',
    message: /no action "raed"; did you mean "read"/
  })
  t.throws(() => rbac.filter(ada, 'doc:raed'), {
    code: 'MARTY_RBAC_PERMISSION_UNKNOWN',
    message: /did you mean "doc:read"/
  })
  t.same(rbac.permitted(ada, 'read'), ['doc:read'])
  t.same(rbac.permitted(ada, 'edit'), [])
  t.same(rbac.permitted(ada, 'edit', { owner: 'ada' }), ['doc:edit'])
  t.equal(rbac.filter(ada, 'doc:read').kind, 'all')
  t.equal(rbac.filter({ ...ada, roles: ['chief'] }, 'doc:edit').kind, 'all')
  t.equal(rbac.filter({ ...ada, roles: ['author', 'banned'] }, 'doc:edit').kind, 'none')
  t.equal(rbac.filter(ada, 'doc:erase').kind, 'none', 'a user is no service')
  t.match(rbac.filter(ada, 'doc:edit'), {
    kind: 'some',
    where: { op: 'eq', left: { attribute: 'owner' }, right: { value: 'ada' } }
  })
})

t.test('explanations are for those who hold policy:explain', async t => {
  const { app } = await build({ explainUrl: '/policy/explain' })
  const question = { principal: { roles: ['author'], id: 'ada' }, permission: 'doc:edit', resource: { owner: 'bob' } }
  const ask = async (who: string, payload: object) =>
    await app.inject({ method: 'POST', url: '/policy/explain', headers: as(who), payload })
  t.equal((await app.inject({ method: 'POST', url: '/policy/explain', payload: question })).statusCode, 401)
  t.equal((await ask('ada:author', question)).statusCode, 403)
  t.notMatch((await ask('ada:author', { permission: 'doc:raed' })).body, /doc:r/, 'strangers learn no name')

  for (const [wrong, message] of [
    [{ ...question, permission: 'doc:raed' }, /did you mean \\"doc:read\\"/],
    [{ ...question, environment: 'prodution' }, /did you mean \\"production\\"/],
    [{ ...question, extra: 1 }, /not valid/],
    [{ ...question, principal: { roles: 'author' } }, /principal\.roles must be a list/],
    [{ ...question, principal: { roles: ['author'], admin: true } }, /unknown key \\"admin\\" in principal/],
    [{ ...question, permission: 5 }, /permission must be a string/],
    [[], /not valid/]
  ] as const) {
    const { statusCode, body } = await ask('eve:chief', wrong)
    t.equal(statusCode, 400, body)
    t.match(body, /MARTY_RBAC_QUESTION_INVALID/)
    t.match(body, message)
  }
  const { sha256, generation } = app.rbac.policy
  const answer = await ask('eve:chief', question)
  t.equal(answer.statusCode, 200)
  t.equal(answer.headers['cache-control'], 'no-store')
  t.match(answer.json(), {
    allowed: false,
    environment: 'production',
    generation,
    sha256,
    others: [{ condition: { result: false, values: { 'resource.owner': 'bob', 'principal.id': 'ada' } } }]
  })
  t.match((await ask('eve:chief', { ...question, resource: { owner: 'ada' }, environment: 'prod' })).json(), {
    allowed: true,
    environment: 'production'
  })

  const method = explainMethod(app.rbac)
  t.match(method, {
    name: 'policy.explain',
    security: { permission: 'policy:explain' },
    params: { type: 'object', additionalProperties: false }
  })
  t.match(method.handler(question), { allowed: false, generation, sha256 })
  t.throws(() => method.handler({ ...question, permission: 'doc:raed' }), { code: 'MARTY_RBAC_QUESTION_INVALID' })
})

t.test('explanations that nobody could be allowed do not start', async t => {
  const { app } = await build({
    explainUrl: '/explain',
    policy: POLICY.replace(/ {2}policy: .*\n/, '').replace(", 'policy:explain'", '')
  })
  await t.rejects(async () => await app.ready(), {
    code: 'MARTY_CORE_RULE_INVALID',
    message: /POST \/explain: security\.permission names "policy:explain", which policy does not define/
  })
  for (const [options, message] of [
    [{ explainUrl: 'explain' }, /"explainUrl" must be a path that begins with "\/"/],
    [{ shadowRatio: 2 }, /"shadowRatio" must be a number from 0 to 1/],
    [{ shadowRatio: NaN }, /"shadowRatio"/],
    [{ shadowRatio: '1' as never }, /"shadowRatio"/]
  ] as const) {
    await t.rejects(build(options), { code: 'MARTY_RBAC_OPT_INVALID', message })
  }
})

t.test('Casbin is asked too, now and then, in a turn of its own and one at a time', async t => {
  const ada = { roles: ['author'], id: 'ada' }
  for (const [shadowRatio, decisions, checked] of [
    [0.1, 9, 0],
    [0.1, 10, 1],
    [0.1, 35, 1],
    [1, 100, 1],
    [0, 100, 0]
  ] as const) {
    const { app } = await build({ shadowRatio })
    for (let i = 0; i < decisions; i++) t.equal(app.can(ada, 'doc:edit', { owner: 'ada' }), true)
    t.same(app.rbac.shadow, { checked: 0, diverged: 0 })
    await turn()
    t.same(app.rbac.shadow, { checked, diverged: 0 }, `${decisions} decisions at ${shadowRatio}`)
  }
})

t.test('once they disagree Casbin decides; when it cannot be asked, that is logged', async t => {
  const { app, logs } = await build({ shadowRatio: 1 })
  app.get('/docs', { config: { security: { permission: 'doc:read' } } }, async () => 'list')
  const status = async (): Promise<number> => (await app.inject({ url: '/docs', headers: as('ada:reader') })).statusCode
  const filters = (): unknown =>
    app.rbac.roles().flatMap(({ name }) =>
      app.rbac.policy.permissions.map(permission => {
        const { test: _, ...filter } = app.rbac.filter({ roles: [name], id: 'ada' }, permission as Permission)
        return { name, permission, filter }
      })
    )
  const compiled = filters()
  const real = Enforcer.prototype.enforceSync
  t.teardown(() => {
    Enforcer.prototype.enforceSync = real
  })
  Enforcer.prototype.enforceSync = () => {
    throw new Error('broken')
  }
  t.equal(await status(), 200)
  await turn()
  t.ok(logs.some(line => line.includes('could not be compared with Casbin')))
  t.same(app.rbac.shadow, { checked: 1, diverged: 0 })
  Enforcer.prototype.enforceSync = () => false
  t.equal(await status(), 200)
  await turn()
  t.equal(app.rbac.shadow.diverged, 1)
  t.ok(logs.some(line => line.includes('from now on Casbin decides') && line.includes('"level":50')))
  t.equal(await status(), 403)
  t.same(filters(), compiled, 'filters come from the rules themselves')
  t.notOk(app.can({ roles: ['reader'] }, 'doc:read'))
  t.same(app.rbac.permissionsOf({ roles: ['chief'] }), [])
  Enforcer.prototype.enforceSync = real
  t.equal(await status(), 200)
  t.equal(app.rbac.shadow.diverged, 1)
})
