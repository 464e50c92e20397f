import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import {
  ANONYMOUS,
  createCall,
  problemErrorHandler,
  useGuard,
  type Authenticator,
  type MartyError,
  type SecurityRule
} from '@marty/core'
import rbacDefault, { rbac, type RbacOptions } from '@marty/rbac'
import { POLICY } from './policy-text.js'

/** `Bearer viewer,suspended` is a caller with these two roles. */
const byRoles: Authenticator = {
  method: 'jwt',
  find: ({ headers }) => headers.authorization?.slice('Bearer '.length) ?? null,
  accepts: () => true,
  authenticate: token => ({
    ...ANONYMOUS,
    id: 'someone',
    kind: 'user',
    roles: token.split(','),
    authenticatedBy: 'jwt'
  })
}

async function build (options: Partial<RbacOptions> = {}): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  useGuard(app, { strict: true }).addAuthenticator(byRoles)
  app.setErrorHandler(problemErrorHandler)
  await app.register(rbac, { policy: POLICY, environment: 'production', ...options })
  return app
}

const route = (app: FastifyInstance, url: string, security: SecurityRule): void => {
  app.get(url, { config: { security } }, async () => 'done')
}
const as = (roles: string, url: string) => ({ url, headers: { authorization: `Bearer ${roles}` } })

t.test('options that are wrong stop the start, and are named', async t => {
  const refused = async (options: Record<string, unknown>, message: RegExp): Promise<void> => {
    const app = Fastify()
    t.teardown(() => app.close())
    await t.rejects(
      async () => await app.register(rbac, options as unknown as RbacOptions),
      { code: 'MARTY_RBAC_OPT_INVALID', message },
      String(message)
    )
  }
  await refused({ environment: 'dev' }, /^rbac options need either "policyFile" or "policy"$/)
  await refused({ policy: POLICY, policyFile: 'x', environment: 'dev' }, /not both/)
  await refused({ policy: POLICY }, /option "environment" is required/)
  await refused({ policy: POLICY, environment: 5 }, /option "environment" must be the name or alias .*, not 5/)
  await refused({ policy: '', environment: 'dev' }, /option "policy" must be a non-empty string/)
  await refused({ policy: ' ', environment: 'dev' }, /option "policy" must be a non-empty string/)
  await refused({ policy: POLICY, enviroment: 'dev' }, /option "enviroment" is not known; did you mean "environment"/)
  await refused(
    { policy: POLICY, environment: 'prodution' },
    /"prodution", which policy does not define; did you mean "production"/
  )
  await refused(
    { policy: POLICY, environment: 'mars' },
    /which policy does not define; known are development, production, dev, prod/
  )
})

t.test('a faulty or absent policy stops the start', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'marty-rbac-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const policyFile = join(folder, 'rbac.yaml')
  const start = async (): Promise<unknown> => await Fastify().register(rbac, { policyFile, environment: 'dev' })
  await t.rejects(start(), {
    code: 'MARTY_RBAC_POLICY_INVALID',
    message: /rbac\.yaml: cannot be read: there is no such file/
  })
  writeFileSync(policyFile, POLICY.replace('camera:view', 'camera:vew'))
  await t.rejects(start(), {
    code: 'MARTY_RBAC_POLICY_INVALID',
    message: /rbac\.yaml:8:13: "camera" does not have the action "vew"; did you mean "view"/
  })
  writeFileSync(policyFile, POLICY)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(rbacDefault, { policyFile, environment: 'dev' })
  t.equal(app.rbac.policy.file, policyFile)
})

t.test('rules that name what the policy does not define stop the start, all at once', async t => {
  const app = await build()
  const bad: Record<string, unknown> = {
    '/a': { permission: 'camera:veiw' },
    '/b': { permission: 'camera:*' },
    '/c': { permission: 'camera' },
    '/d': { permission: ['camera:view'] },
    '/e': { roles: ['opertor'] },
    '/f': { roles: [] },
    '/g': { roles: 'admin' },
    '/h': { roles: [['admin']] },
    '/i': { public: true, permission: 'camera:view' }
  }
  for (const [url, rule] of Object.entries(bad)) route(app, url, rule as SecurityRule)
  const error = await app.ready().then(
    () => null,
    error => error as MartyError
  )
  t.equal(error?.code, 'MARTY_CORE_RULE_INVALID')
  const [, ...lines] = error?.message.split('\n') ?? []
  t.match(lines[0], /GET \/a: .*"camera:veiw", which policy does not define; did you mean "camera:view"\?/)
  t.match(lines[1], /GET \/b: .*without \*/)
  t.match(lines[2], /GET \/c: .*"resource:action" or/)
  t.match(lines[3], /GET \/d: .*must be a text/)
  t.match(lines[4], /GET \/e: .*"opertor", .*did you mean "operator"\?/)
  for (const line of [5, 6]) t.match(lines[line], /list of at least one role/)
  t.match(lines[7], /GET \/h: security\.roles names \["admin"\]/)
  t.match(lines[8], /GET \/i: security\.public excludes security\.permission/)
})

t.test('a caller who may not gets 403 with the permission and nothing of the policy', async t => {
  const app = await build()
  route(app, '/control', { permission: 'recording:control' })
  t.equal((await app.inject('/control')).statusCode, 401)
  for (const roles of ['viewer', 'stranger', '', 'suspended', '__proto__']) {
    const answer = await app.inject(as(roles, '/control'))
    t.equal(answer.statusCode, 403, roles)
    t.match(answer.json(), { code: 'MARTY_RBAC_DENIED', permission: 'recording:control' })
    t.notMatch(answer.body, /operator|admin|inherit|yaml/)
  }
  for (const roles of ['operator', 'admin', 'stranger,operator']) {
    t.equal((await app.inject(as(roles, '/control'))).statusCode, 200, roles)
  }
})

t.test('the environment of the service decides', async t => {
  for (const [environment, status] of [
    ['prod', 403],
    ['production', 403],
    ['dev', 200]
  ] as const) {
    const app = await build({ environment })
    route(app, '/own', { permission: 'services:own:update' })
    t.equal((await app.inject(as('owner', '/own'))).statusCode, status, environment)
  }
})

t.test('roles: any of them, itself or inherited; with a permission, both must hold', async t => {
  const app = await build()
  route(app, '/operators', { roles: ['operator', 'owner'] })
  route(app, '/both', { roles: ['operator'], permission: 'camera:configure' })
  const status = async (roles: string, url: string): Promise<number> => (await app.inject(as(roles, url))).statusCode
  t.equal(await status('viewer', '/operators'), 403)
  t.equal(await status('operator', '/operators'), 200)
  t.equal(await status('owner', '/operators'), 200)
  t.equal(await status('admin', '/operators'), 200, 'admin inherits operator')
  t.equal(await status('operator', '/both'), 403)
  t.equal(await status('admin', '/both'), 200)
  t.equal(await status('admin,suspended', '/both'), 403)
  const denied = (await app.inject(as('viewer', '/operators'))).json()
  t.match(denied, { code: 'MARTY_RBAC_DENIED' })
  t.notMatch(JSON.stringify(denied), /operator"|owner/)
})

t.test('the same check guards RPC methods, without a promise', async t => {
  const app = await build()
  const operation = app.guard.operation({
    name: 'start_recording',
    transport: 'rpc',
    rule: { permission: 'recording:control' },
    where: 'method start_recording'
  })
  await app.ready()
  if (operation === null) throw new Error('the method has a rule')
  const call = (roles: string[]) =>
    createCall(operation, '1', null, null, { ...ANONYMOUS, id: 'x', kind: 'user', roles })
  t.equal(operation.decide(call(['operator'])), undefined)
  t.match(operation.decide(call(['viewer'])), {
    code: 'MARTY_RBAC_DENIED',
    rpcCode: -32002,
    data: { permission: 'recording:control' }
  })
})

t.test('the application can be asked', async t => {
  const app = await build()
  t.ok(app.can({ roles: ['operator'] }, 'camera:view'))
  t.notOk(app.can(ANONYMOUS, 'camera:view'))
  t.throws(() => app.can({ roles: [] }, 'camera:veiw'), { code: 'MARTY_RBAC_PERMISSION_UNKNOWN' })
  t.ok(app.rbac.can({ roles: ['owner'] }, 'services:own:read'))
  t.same(app.rbac.permissionsOf({ roles: ['owner'] }), ['services:own:read'])
  t.equal(app.rbac.environment, 'production')
  t.ok(app.rbac.roles().some(({ name }) => name === 'operator'))
  t.match(app.rbac.explain({ roles: ['owner'] }, 'services:own:update'), {
    allowed: false,
    rule: { where: 'policy:28:23' }
  })
})

t.test('a service that is called asks by its own name', async t => {
  const text = `${POLICY}services: { recorder: { may: [{ call: storage, permissions: ['recording:view'] }] }, storage: {} }\n`
  const start = async (options: Partial<RbacOptions>): Promise<FastifyInstance> => {
    const app = Fastify()
    t.teardown(() => app.close())
    useGuard(app, { strict: true }).addAuthenticator({
      ...byRoles,
      authenticate: token => ({ ...ANONYMOUS, id: token, kind: 'service', authenticatedBy: 'jwt' })
    })
    await app.register(rbac, { policy: text, environment: 'dev', ...options })
    route(app, '/recordings', { permission: 'recording:view' })
    return app
  }
  const storage = await start({ service: 'storage' })
  t.equal((await storage.inject(as('recorder', '/recordings'))).statusCode, 200)
  t.equal((await storage.inject(as('storage', '/recordings'))).statusCode, 403)
  t.equal(storage.rbac.service, 'storage')
  t.same(storage.rbac.permissionsOf({ roles: [], kind: 'service', id: 'recorder' }), ['recording:view'])
  for (const options of [{}, { service: 'recorder' }]) {
    t.equal((await (await start(options)).inject(as('recorder', '/recordings'))).statusCode, 403)
  }
  await t.rejects(start({ service: 'storge' }), {
    code: 'MARTY_RBAC_OPT_INVALID',
    message: /"storge", which policy does not define; did you mean "storage"/
  })
})

t.test('who holds roles that are kept apart passes for none of them', async t => {
  const app = await build({ policy: `${POLICY}separation: [{ roles: [owner, operator] }]\n` })
  route(app, '/operators', { roles: ['operator', 'owner'] })
  for (const [roles, status] of [
    ['operator', 200],
    ['owner', 200],
    ['owner,viewer', 200],
    ['owner,operator', 403],
    ['owner,admin', 403]
  ] as const) {
    t.equal((await app.inject(as(roles, '/operators'))).statusCode, status, roles)
  }
})

t.test('a handler asks about what it has loaded', async t => {
  const app = await build({
    policy: `version: 1
resources: { doc: { actions: [edit], attributes: { owner: text } } }
roles: { author: { allow: [{ permission: 'doc:edit', when: resource.owner == principal.id }] } }
environments: { production: {} }
`
  })
  const ada = { roles: ['author'], id: 'ada' }
  t.ok(app.can(ada, 'doc:edit', { owner: 'ada' }))
  t.notOk(app.can(ada, 'doc:edit', { owner: 'bob' }))
  t.notOk(app.can(ada, 'doc:edit'))
  t.notOk(app.can({ roles: ['author'] }, 'doc:edit', { owner: 'ada' }))
  t.match(app.rbac.explain(ada, 'doc:edit', { owner: 'bob' }), {
    allowed: false,
    others: [{ condition: { result: false } }]
  })
  route(app, '/edit', { permission: 'doc:edit' })
  t.equal(
    (await app.inject(as('author', '/edit'))).statusCode,
    403,
    'a route that tells nothing of the resource opens nothing'
  )
})

t.test('usable alone: routes without a rule are left alone', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(rbac, { policy: POLICY, environment: 'dev' })
  app.get('/plain', async () => 'open')
  t.equal((await app.inject('/plain')).statusCode, 200)
})

t.test("Fastify's own register options are accepted", async t => {
  const app = Fastify({ logger: false })
  t.teardown(() => app.close())
  const registerOptions = { prefix: '/api', logLevel: 'warn', logSerializers: {} } as const
  await app.register(rbac, { policy: POLICY, environment: 'production', ...registerOptions })
  t.ok(app.can({ roles: ['viewer'] }, 'camera:view'))
})
