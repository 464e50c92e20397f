import t from 'tap'
import { loadPolicy } from '@marty/rbac'
import { POLICY, policyWith } from './policy-text.js'

const policy = await loadPolicy(POLICY, 'p.yaml')
const can = (roles: readonly string[], permission: string, environment = 'development'): boolean =>
  policy.decide(roles, permission, environment)

t.test('nothing is allowed by default', async t => {
  for (const roles of [
    [],
    ['nobody'],
    ['__proto__'],
    ['constructor'],
    ['*'],
    [''],
    ['viewer '],
    ['VIEWER'],
    ['viewer', 'suspended']
  ]) {
    t.notOk(can(roles, 'camera:view'), JSON.stringify(roles))
    t.notOk(policy.decideByCasbin(roles, 'camera:view', 'dev'), JSON.stringify(roles))
  }
})

t.test('roles that are no texts count for nothing', async t => {
  for (const roles of [[['viewer']], [null], [undefined], [{ toString: () => 'viewer' }]] as unknown as string[][]) {
    t.notOk(can(roles, 'camera:view'))
    t.notOk(policy.decideByCasbin(roles, 'camera:view', 'dev'))
  }
})

t.test('allow is inherited, upwards only', async t => {
  t.ok(can(['operator'], 'camera:view'))
  t.ok(can(['admin'], 'recording:control'))
  t.notOk(can(['viewer'], 'recording:control'))
})

t.test('a deny beats the allow of another role', async t => {
  t.ok(can(['viewer'], 'camera:view'))
  t.notOk(can(['viewer', 'suspended'], 'camera:view'))
  t.notOk(can(['suspended', 'admin'], 'camera:configure'))
  t.ok(can(['viewer', 'suspended'], 'recording:view'), 'of what it names only')
})

t.test('a deny reaches directly assigned roles only', async t => {
  t.ok(can(['trainee'], 'camera:view'), 'trainee inherits suspended')
  t.notOk(can(['trainee', 'suspended'], 'camera:view'))
})

t.test('a wildcard stands for one whole segment', async t => {
  t.ok(can(['trainee'], 'recording:view'))
  t.notOk(can(['trainee'], 'services:read'), '*:view speaks of viewing only')
  t.ok(can(['owner'], 'services:own:read'))
  t.notOk(can(['owner'], 'services:public:read'))
})

t.test('a part does not open the whole; a denied part closes it', async t => {
  t.ok(can(['viewer'], 'services:public:read'))
  t.notOk(can(['viewer'], 'services:own:read'))
  t.notOk(can(['viewer'], 'services:read'))
  t.ok(can(['admin'], 'services:update', 'production'))
  t.notOk(can(['admin', 'owner'], 'services:update', 'production'))
  t.ok(can(['admin', 'owner'], 'services:public:update', 'production'))
  t.ok(can(['admin', 'owner'], 'services:update', 'development'))
})

t.test('an environment narrows, under every of its names', async t => {
  t.ok(can(['owner'], 'services:own:update', 'dev'))
  for (const name of ['production', 'prod']) t.notOk(can(['owner'], 'services:own:update', name), name)
})

t.test('unknown permissions and environments are mistakes of the program', async t => {
  t.throws(() => can(['admin'], 'camera:veiw'), {
    code: 'MARTY_RBAC_PERMISSION_UNKNOWN',
    message: 'The policy defines no permission "camera:veiw"; did you mean "camera:view"?'
  })
  t.throws(() => can(['admin'], 'camera:*'), { code: 'MARTY_RBAC_PERMISSION_UNKNOWN' })
  t.throws(() => can(['admin'], 'camera:view', 'prodution'), /no environment "prodution"; did you mean "production"/)
  t.throws(() => policy.decideByCasbin(['admin'], 'x:y', 'prod'), { code: 'MARTY_RBAC_PERMISSION_UNKNOWN' })
  t.equal(policy.decider('x:y', 'prod'), null)
})

t.test('a policy says what it holds, and cannot be changed', async t => {
  t.match(policy.roles[1], { name: 'operator', inherits: ['viewer'] })
  t.same(
    policy.permissions.filter(name => name.startsWith('services')),
    [
      'services:read',
      'services:update',
      'services:own:read',
      'services:own:update',
      'services:public:read',
      'services:public:update'
    ]
  )
  t.same(policy.permissionsOf(['operator'], 'prod'), [
    'camera:view',
    'recording:view',
    'recording:control',
    'services:public:read'
  ])
  t.same([...policy.rolesThatHold(['operator'])], ['operator', 'admin'])
  t.not(policy.sha256, (await loadPolicy(policyWith('frozen', 'thawed'), 'p.yaml')).sha256)
  t.throws(() => {
    ;(policy as { decide: unknown }).decide = () => true
  }, TypeError)
  t.throws(() => {
    ;(policy.permissions as string[]).push('x:y')
  }, TypeError)
})

t.test('explanations name the rule, its place and the way to it', async t => {
  const told = (...question: Parameters<typeof policy.explain>): unknown => {
    const { decisionId, others, ...rest } = policy.explain(...question)
    t.match(decisionId, /^[0-9a-f-]{36}$/)
    return { ...rest, others: others.map(({ where }) => where) }
  }
  t.same(told(['admin'], 'recording:view', 'prod'), {
    allowed: true,
    reason: 'viewer is allowed recording:view, which admin inherits',
    rule: {
      effect: 'allow',
      role: 'viewer',
      permission: 'recording:view',
      environment: '*',
      path: ['admin', 'operator', 'viewer'],
      where: 'p.yaml:8:28'
    },
    others: ['p.yaml:21:13']
  })
  t.same(told(['admin', 'owner'], 'services:own:update', 'prod'), {
    allowed: false,
    reason: 'owner is denied services:own:update in production: frozen',
    rule: {
      effect: 'deny',
      role: 'owner',
      permission: 'services:own:update',
      environment: 'production',
      path: ['owner'],
      where: 'p.yaml:28:23',
      reason: 'frozen'
    },
    others: ['p.yaml:18:13', 'p.yaml:21:13']
  })
  t.same(told(['viewer'], 'recording:control', 'dev'), {
    allowed: false,
    reason: 'no role of the caller (viewer) is allowed recording:control',
    others: []
  })
  t.same(told(['ghost'], 'camera:view', 'dev'), {
    allowed: false,
    reason: "the policy knows none of the caller's roles (ghost)",
    others: []
  })
  t.same(told([], 'camera:view', 'dev'), { allowed: false, reason: 'the caller has no role', others: [] })
})
