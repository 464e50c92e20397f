import t from 'tap'
import { checkPolicy, loadPolicy, testPolicy, type Attributes } from '@marty/rbac'

const TEXT = `version: 1
resources:
  doc: { actions: [read, write, drop], scopes: [own], attributes: { owner: text, secret: boolean } }
  log: { actions: [read] }
roles:
  reader: { allow: ['doc:read'] }
  writer:
    inherits: [reader]
    allow:
      - 'doc:write'
      - { permission: 'doc:own:drop', when: resource.owner == principal.id, reason: it is theirs }
    deny:
      - { permission: 'doc:read', when: resource.secret == true, reason: writers do not read secrets }
  chief: { inherits: [writer], allow: ['doc:drop'] }
  auditor: { allow: ['log:read', { permission: 'doc:read', when: resource.secret == false }] }
  inspector: { inherits: [auditor] }
  guest: {}
environments:
  development: { aliases: [dev] }
  production:
    aliases: [prod]
    deny:
      - { roles: [writer], permissions: ['doc:write'], when: resource.secret == true, reason: frozen }
    require:
      - { permissions: ['doc:drop'], roles: [chief], reason: chiefs only }
      - { permissions: ['log:read'], when: principal.kind == "user" }
      - { permissions: ['doc:write'], roles: [chief, auditor], when: 'time in "08:00-18:00 UTC"' }
services:
  recorder:
    may:
      - { call: storage, permissions: ['doc:own:write', 'log:read'] }
      - { call: index, permissions: ['doc:read'], when: resource.secret == false, reason: the index is public }
  storage: {}
  index: { description: Finds things }
separation:
  - { roles: [writer, auditor], reason: who writes does not examine }
`
const policy = await loadPolicy(TEXT, 'p.yaml')

function can (roles: readonly string[], permission: string, environment: string, attributes: Attributes = {}): boolean {
  const answer = policy.decide(roles, permission, environment, attributes)
  t.equal(policy.decideByCasbin(roles, permission, environment, attributes), answer, 'Casbin agrees')
  t.equal(policy.explain(roles, permission, environment, attributes).allowed, answer, 'the explanation agrees')
  t.equal(policy.decider(permission, environment)?.(roles, attributes), answer, 'the decider agrees')
  const set = policy.roleSet(roles, attributes)
  t.equal(
    policy.decideId(set, policy.permissionId(permission)!, policy.environmentId(environment)!, attributes),
    answer,
    'ids agree'
  )
  return answer
}
const mistakes = (piece: string, replacement: string): string[] => {
  if (!TEXT.includes(piece)) throw new Error(piece)
  return checkPolicy(TEXT.replace(piece, replacement), 'p.yaml').problems.map(
    ({ line, column, message }) => `${line}:${column} ${message}`
  )
}

t.test('an allow with a condition allows only when it holds', async t => {
  t.notOk(can(['writer'], 'doc:own:drop', 'dev'))
  t.notOk(can(['writer'], 'doc:own:drop', 'dev', { resource: { owner: 'ada' } }))
  t.notOk(can(['writer'], 'doc:own:drop', 'dev', { principal: { id: 'bob' }, resource: { owner: 'ada' } }))
  t.ok(can(['writer'], 'doc:own:drop', 'dev', { principal: { id: 'ada' }, resource: { owner: 'ada' } }))
  t.notOk(
    can(['writer'], 'doc:drop', 'dev', { principal: { id: 'ada' }, resource: { owner: 'ada' } }),
    'the part does not open the whole'
  )
  t.ok(can(['chief'], 'doc:own:drop', 'dev'), 'what is allowed anyway needs no condition')
})

t.test('a deny with a condition stands unless it is known not to hold', async t => {
  t.notOk(can(['writer'], 'doc:read', 'dev'), 'nobody said that it is no secret')
  t.notOk(can(['writer'], 'doc:read', 'dev', { resource: { secret: true } }))
  t.notOk(can(['writer'], 'doc:read', 'dev', { resource: { secret: 'no' } }), 'another type says nothing')
  t.ok(can(['writer'], 'doc:read', 'dev', { resource: { secret: false } }))
  t.ok(can(['reader'], 'doc:read', 'dev'))
  t.ok(can(['chief'], 'doc:read', 'dev'), 'a deny is not inherited')
})

t.test('an environment takes away, with a condition too', async t => {
  const noon = Date.parse('2025-01-15T12:00Z')
  t.ok(can(['chief', 'writer'], 'doc:write', 'prod', { resource: { secret: false }, time: noon }))
  t.notOk(can(['chief', 'writer'], 'doc:write', 'prod', { resource: { secret: true }, time: noon }))
  t.notOk(can(['chief', 'writer'], 'doc:write', 'prod', { time: noon }))
  t.ok(can(['writer'], 'doc:write', 'dev', { resource: { secret: true } }))
})

t.test('what an environment requires must hold besides a grant, each part of it', async t => {
  const noon = Date.parse('2025-01-15T12:00Z')
  const night = Date.parse('2025-01-15T23:00Z')
  t.ok(can(['chief'], 'doc:drop', 'prod'))
  t.notOk(
    can(['writer'], 'doc:own:drop', 'prod', { principal: { id: 'a' }, resource: { owner: 'a' } }),
    'a requirement of the whole is one of its parts'
  )
  t.notOk(can(['guest'], 'doc:drop', 'prod'), 'a requirement gives nothing')
  t.ok(can(['auditor'], 'log:read', 'prod', { principal: { kind: 'user' } }))
  t.notOk(can(['auditor'], 'log:read', 'prod', { principal: { kind: 'key' } }))
  t.notOk(can(['auditor'], 'log:read', 'prod'), 'what is not known does not hold')
  t.ok(can(['auditor'], 'log:read', 'dev'))
  t.ok(can(['inspector'], 'log:read', 'dev'))
  t.ok(can(['chief'], 'doc:write', 'prod', { time: noon }))
  t.notOk(can(['chief'], 'doc:write', 'prod', { time: night }))
  t.notOk(can(['writer'], 'doc:write', 'prod', { time: noon, resource: { secret: false } }), 'not one of the roles')
})

t.test('a service may do what is written for its call, and nothing else', async t => {
  const call = (
    id: string,
    service: string | undefined,
    kind: 'service' | 'user' = 'service',
    more: Attributes = {}
  ): Attributes => ({ principal: { kind, id }, service, ...more })
  t.ok(can([], 'log:read', 'dev', call('recorder', 'storage')))
  t.ok(can([], 'doc:own:write', 'dev', call('recorder', 'storage')))
  t.notOk(can([], 'doc:write', 'dev', call('recorder', 'storage')))
  t.notOk(can([], 'log:read', 'dev', call('recorder', 'index')))
  t.notOk(can([], 'log:read', 'dev', call('storage', 'recorder')))
  t.notOk(can([], 'log:read', 'dev', call('recorder', undefined)), 'nobody says who is called')
  t.notOk(can([], 'log:read', 'dev', call('recorder', 'storage', 'user')), 'a person of that name')
  t.notOk(can([], 'log:read', 'dev', { service: 'storage' }), 'nobody')
  t.notOk(can([], 'log:read', 'dev', { service: 'storage', principal: { kind: 'service' } }))
  t.notOk(can([], 'doc:read', 'dev', call('recorder', 'index')))
  t.ok(can([], 'doc:read', 'dev', call('recorder', 'index', 'service', { resource: { secret: false } })))
  t.notOk(can([], 'log:read', 'prod', call('recorder', 'storage')), 'environments narrow services too')
  t.ok(can(['reader'], 'doc:read', 'dev', call('recorder', 'storage')), 'with what its roles allow')
  t.notOk(can(['guest'], 'log:read', 'dev', call('recorder>storage', '')), 'a name cannot be put together otherwise')
  const caller = Object.freeze({ kind: 'service', id: 'recorder' } as const)
  const roles = Object.freeze([])
  t.notOk(can(roles, 'log:read', 'dev'))
  t.ok(
    can(roles, 'log:read', 'dev', { principal: caller, service: 'storage' }),
    'the same array of roles, asked as somebody else'
  )
  t.notOk(can(roles, 'log:read', 'dev', { principal: { kind: 'service', id: 'storage' }, service: 'storage' }))
})

t.test('no role makes its holder a service or anybody else', async t => {
  for (const role of ['svc:recorder>storage', 'svc:recorder', '*', 'separated:0', 'unmet:0', 'recorder', 'storage']) {
    for (const permission of ['log:read', 'doc:own:write', 'doc:read']) {
      t.notOk(can([role], permission, 'dev', { service: 'storage' }), role)
    }
    t.ok(can([role, 'reader'], 'doc:read', 'dev'), `${role} takes nothing either`)
  }
})

t.test('who holds two roles that are kept apart is denied what they give', async t => {
  const read = { resource: { secret: false } }
  t.ok(can(['auditor'], 'log:read', 'dev'))
  t.notOk(can(['auditor', 'writer'], 'log:read', 'dev'))
  t.notOk(can(['auditor', 'writer'], 'doc:write', 'dev'))
  t.notOk(can(['inspector', 'chief'], 'log:read', 'dev'), 'through inheritance')
  t.notOk(can(['inspector', 'chief'], 'doc:read', 'dev', read), 'what is inherited is given too')
  t.notOk(can(['inspector', 'chief', 'reader'], 'doc:read', 'dev', read), 'a third role does not give it back')
  t.ok(can(['inspector', 'chief'], 'doc:drop', 'dev') === false, 'a denied part closes the whole')
  t.ok(can(['auditor', 'inspector'], 'log:read', 'dev'), 'one of the two, twice')
  t.ok(can(['auditor', 'reader'], 'doc:read', 'dev'), 'reader is not kept apart')
  t.equal(
    policy.explain(['auditor', 'writer'], 'log:read', 'dev').reason,
    'writer and auditor must not be held together, so what they give is denied: who writes does not examine'
  )
})

t.test('roles that could never be used are refused', async t => {
  t.match(mistakes('guest: {}', 'guest: { inherits: [chief, inspector] }'), [
    '36:5 "guest" always holds writer and auditor, itself or through inheritance; nobody could use what they give'
  ])
  t.match(mistakes('roles: [writer, auditor], reason: who', 'roles: [chief, writer], reason: who'), [
    /"chief" always holds chief and writer/
  ])
  t.match(mistakes('roles: [writer, auditor], reason: who', 'roles: [writer, auditer], reason: who'), [
    /there is no role "auditer"; did you mean "auditor"/
  ])
  t.match(mistakes('roles: [writer, auditor], reason: who', 'roles: [writer], reason: who'), [/at least 2 items/])
})

t.test('mistakes of the newer sections are told', async t => {
  t.match(mistakes('call: storage', 'call: storag'), [
    '31:17 there is no service "storag"; did you mean "storage", declared in line 33 and used nowhere?'
  ])
  t.match(mistakes("'log:read'] }\n      - { call: index", "'log:raed'] }\n      - { call: index"), [
    /"log" does not have the action "raed"/
  ])
  t.match(mistakes('roles: [chief], reason', 'roles: [cheif], reason'), [/there is no role "cheif"/])
  t.match(mistakes('roles: [chief], reason', 'reason'), [/this requires nothing; add roles or when/])
  t.match(
    mistakes("permissions: ['log:read'], when: principal.kind", "permissions: ['log:view'], when: principal.kind"),
    [/does not have the action "view"/]
  )
  t.match(mistakes('principal.kind == "user"', 'principal.kind == "usr"'), [
    '26:62 principal.kind is never "usr"; did you mean "user"?'
  ])
  t.match(mistakes('owner: text', 'owner: txt'), [/attributes\.owner must be text, number, boolean, list/])
  t.match(mistakes('owner: text', 'constructor: text'), [/is not allowed/])
  t.match(mistakes('when: resource.owner == principal.id', 'when: true'), [
    /allow\[1\]\.when must be a string; found true/
  ])
  t.match(mistakes('when: resource.owner == principal.id', 'wen: x'), [
    /unknown key "wen" in roles\.writer\.allow\[1\]; did you mean "when"/
  ])
  t.match(mistakes("permission: 'doc:own:drop'", "permission: 'doc:onw:drop'"), [/does not have the scope "onw"/])
  t.match(mistakes('services:\n', 'servces:\n'), [/unknown key "servces"; did you mean "services"/])
})

t.test('sizes are bounded', async t => {
  t.match(checkPolicy(`${TEXT}#${'x'.repeat(5_000_000)}`, 'p.yaml').problems, [
    { line: 0, message: /^is 500\d+ bytes long; a policy has at most 5000000$/ }
  ])
  const names = (count: number, prefix: string): string =>
    Array.from({ length: count }, (_, index) => `${prefix}${index}`).join(', ')
  t.match(
    mistakes('log: { actions: [read] }', `log: { actions: [read, ${names(300, 'a')}], scopes: [${names(300, 's')}] }`),
    [/have 90\d+ permissions; a policy has at most 50000/]
  )
  t.match(mistakes('  guest: {}\n', Array.from({ length: 20_000 }, (_, index) => `  guest${index}: {}\n`).join('')), [
    /there are 20005 roles; a policy has at most 20000/
  ])
})

t.test('explanations tell what conditions saw, and who was outvoted', async t => {
  t.match(
    policy.explain(['writer'], 'doc:own:drop', 'prod', { principal: { id: 'ada' }, resource: { owner: 'ada' } }),
    {
      allowed: false,
      reason: 'doc:drop in production needs chief: chiefs only',
      rule: { effect: 'deny', role: 'unmet:0', path: [], where: 'p.yaml:25:25', reason: 'chiefs only' },
      others: [
        {
          effect: 'allow',
          role: 'writer',
          where: 'p.yaml:11:9',
          reason: 'it is theirs',
          condition: {
            text: 'resource.owner == principal.id',
            result: true,
            values: { 'resource.owner': 'ada', 'principal.id': 'ada' }
          }
        }
      ]
    }
  )
  t.match(policy.explain(['writer'], 'doc:own:drop', 'dev'), {
    allowed: false,
    reason:
      'no role of the caller (writer) is allowed doc:own:drop; a rule would allow it, but its condition does not hold',
    others: [{ condition: { result: 'unknown', values: { 'resource.owner': undefined } } }]
  })
  t.match(policy.explain(['writer'], 'doc:read', 'dev', { resource: { secret: false } }), {
    allowed: true,
    others: [{ effect: 'deny', condition: { result: false } }]
  })
  t.match(
    policy.explain(['writer'], 'doc:read', 'dev').reason,
    'writer is denied doc:read if resource.secret == true: writers do not read secrets'
  )
  t.match(
    policy.explain(['auditor'], 'log:read', 'prod').reason,
    'log:read in production is denied to anyone if not (principal.kind == "user")'
  )
  const service: Attributes = { principal: { kind: 'service', id: 'recorder' }, service: 'index' }
  t.match(policy.explain([], 'doc:read', 'dev', { ...service, resource: { secret: false } }), {
    reason: 'recorder may call index for doc:read if resource.secret == false: the index is public',
    rule: { role: 'svc:recorder>index' }
  })
  t.match(policy.explain([], 'log:read', 'dev', service).reason, 'nothing allows recorder to call index for log:read')
  t.equal(policy.explain(['writer', 'auditor'], 'doc:read', 'dev').others.length, 3, 'two grants and the separation')
  const long = policy.explain(['writer'], 'doc:own:drop', 'dev', {
    principal: { id: 'x'.repeat(500) },
    resource: { owner: { toString: () => 'secret' } }
  })
  t.match(long.others[0]?.condition?.values, {
    'principal.id': `${'x'.repeat(100)}…`,
    'resource.owner': 'a value of type object'
  })
  t.match(
    policy.explain(['auditor', 'inspector'], 'doc:read', 'dev').reason,
    /a rule would allow it, but its condition does not hold$/
  )
})

t.test('a route can ask what it has to load', async t => {
  t.same(policy.attributesOf('doc:own:drop', 'dev'), ['owner'])
  t.same(policy.attributesOf('doc:read', 'dev'), ['secret'])
  t.same(policy.attributesOf('log:read', 'prod'), [], 'the principal is there anyway')
  t.throws(() => policy.attributesOf('doc:raed', 'dev'), { code: 'MARTY_RBAC_PERMISSION_UNKNOWN' })
})

t.test('lists in explanations are shortened', async t => {
  const listed = await loadPolicy(
    `version: 1
resources: { doc: { actions: [read], attributes: { tags: list } } }
roles: { a: { allow: [{ permission: 'doc:read', when: '"x" in resource.tags' }, { permission: '*:*', when: '"y" in resource.tags' }] } }
environments: { dev: {} }
`,
    'p.yaml'
  )
  const seen = (tags: unknown): unknown =>
    listed.explain(['a'], 'doc:read', 'dev', { resource: { tags } }).others[0]?.condition?.values['resource.tags']
  t.same(seen(['a', ['b'], 1]), ['a', 'a list', 1])
  t.equal(seen(Array.from({ length: 101 }, () => 'a')), 'a list of 101')
  t.match(listed.explain(['a'], 'doc:read', 'dev').reason, /2 rules would allow it, but their conditions do not hold$/)
})

t.test('policy tests know principals, services, resources and the time', async t => {
  const report = testPolicy(
    policy,
    `version: 1
principals:
  ada: { roles: [writer], kind: user, id: ada, scopes: [a], claims: { team: x } }
  recorder: { roles: [], kind: service, id: recorder }
  chief: { roles: [chief] }
tests:
  - { name: own, principals: [ada], environments: [dev], resource: { owner: ada, secret: false }, allow: ['doc:own:drop', 'doc:read'] }
  - { name: call, principals: [recorder], environments: [dev], service: storage, only: ['doc:own:write', 'log:read'] }
  - { name: day, principals: [chief], environments: [prod], time: 2025-01-15T12:00Z, allow: ['doc:write'] }
  - { name: night, principals: [chief], environments: [prod], time: 2025-01-15T22:00+01:00, deny: ['doc:write'] }
  - { name: timeless, principals: [chief], environments: [prod], deny: ['doc:write'] }
`,
    't.yaml'
  )
  t.same(report.problems, [])
  t.same(report.failures, [])
  t.same(
    report.uncovered.map(({ line }) => line),
    [13, 14, 15, 15, 23, 25, 26, 32, 36],
    'what no test saw apply, and nothing else'
  )
  const faulty = testPolicy(
    policy,
    `version: 1
principals: { ada: { roles: [writer], kind: person } }
tests:
  - { name: x, principals: [ada], service: storag, time: today, allow: ['doc:read'] }
`,
    't.yaml'
  )
  t.match(
    faulty.problems.map(({ message }) => message),
    [/kind must be one of "user", "service", "key", "anonymous"/, /time must be a date and time with an offset/]
  )
  const unknown = testPolicy(
    policy,
    `version: 1
principals: { ada: { roles: [writer] } }
tests:
  - { name: x, principals: [ada], service: storag, time: '2025-02-31T25:00Z', allow: ['doc:read'] }
`,
    't.yaml'
  )
  t.match(unknown.problems.map(({ message }) => message).sort(), [
    'there is no service "storag"; did you mean "storage"?',
    'there is no time 2025-02-31T25:00Z'
  ])
})
