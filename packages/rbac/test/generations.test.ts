import t from 'tap'
import { loadPolicy, type Policy, type RoleSet } from '@marty/rbac'

const text = (
  permissions: Record<string, string[]>,
  roles: Record<string, string[]>,
  environments = ['dev', 'prod']
): string =>
  JSON.stringify({
    version: 1,
    resources: Object.fromEntries(Object.entries(permissions).map(([name, actions]) => [name, { actions }])),
    roles: Object.fromEntries(Object.entries(roles).map(([name, allow]) => [name, { allow }])),
    environments: Object.fromEntries(environments.map(name => [name, {}]))
  })
const idsOf = (policy: Policy): Record<string, number | undefined> =>
  Object.fromEntries(policy.permissions.map(name => [name, policy.permissionId(name)]))

t.test('ids stay what they are, whatever comes and goes', async t => {
  const first = await loadPolicy(text({ a: ['x', 'y'], b: ['x'] }, { reader: ['a:x'], writer: ['*:*'] }), 'p')
  t.same(idsOf(first), { 'a:x': 0, 'a:y': 1, 'b:x': 2 })
  t.equal(first.generation, 1)

  const second = await loadPolicy(
    text({ b: ['x', 'z'], c: ['x'] }, { writer: ['*:*'], reader: ['c:x'] }, ['prod', 'staging']),
    'p',
    { previous: first }
  )
  t.same(idsOf(second), { 'b:x': 2, 'b:z': 3, 'c:x': 4 })
  t.equal(second.generation, 2)
  t.equal(second.environmentId('prod'), first.environmentId('prod'))
  t.equal(second.environmentId('dev'), undefined)
  t.equal(second.environmentId('staging'), 2)
  t.equal(second.permissionId('a:x'), undefined)

  const writer = second.roleSet(['writer'])
  for (const [permission, environment] of [
    [0, 1],
    [1, 1],
    [2, 0],
    [4, 0]
  ] as const) {
    t.notOk(second.decideId(writer, permission, environment), `${permission} or ${environment} is no more`)
  }
  for (const permission of [2, 3, 4]) {
    for (const environment of [1, 2]) t.ok(second.decideId(writer, permission, environment))
  }

  const third = await loadPolicy(text({ a: ['x'] }, { reader: ['a:x'] }), 'p', { previous: second })
  t.same(idsOf(third), { 'a:x': 0 })
  t.ok(third.decideId(third.roleSet(['reader']), 0, 0), 'what comes back has its old id')
})

t.test("ids that do not exist are denied, and read nobody else's row", async t => {
  const policy = await loadPolicy(
    text({ a: Array.from({ length: 40 }, (_, index) => `x${index}`) }, { first: ['a:x0'], all: ['*:*'] }),
    'p'
  )
  for (const roles of [['first'], ['all'], ['first', 'all']]) {
    const set = policy.roleSet(roles)
    for (const id of [-1, -40, -1e9, 40, 41, 127, 128, 1e9, 2 ** 32, NaN, Infinity, undefined]) {
      t.notOk(policy.decideId(set, id as number, 0), `permission ${id}`)
      if (id !== 0 && id !== 1) t.notOk(policy.decideId(set, 0, id as number), `environment ${id}`)
    }
  }
  t.equal(policy.permissionId('a:y'), undefined)
  t.equal(policy.permissionId('__proto__'), undefined)
  t.equal(policy.environmentId('constructor'), undefined)
})

t.test('a role set that was looked up in another generation is looked up again', async t => {
  const first = await loadPolicy(text({ a: ['x'] }, { reader: ['a:x'], writer: ['a:x'] }), 'p')
  const held = first.roleSet(['writer'])
  const second = await loadPolicy(text({ a: ['x'] }, { other: ['a:x'], writer: ['a:x'], reader: ['a:x'] }), 'p', {
    previous: first
  })
  const without = await loadPolicy(text({ a: ['x'] }, { reader: ['a:x'] }), 'p', { previous: second })
  const unrelated = await loadPolicy(text({ z: ['z'], a: ['x'] }, { admin: ['*:*'] }), 'p')
  t.ok(first.decideId(held, 0, 0))
  t.ok(second.decideId(held, 0, 0))
  t.notOk(without.decideId(held, 0, 0), 'the role is gone')
  t.notOk(unrelated.decideId(held, 0, 0))
  t.ok(first.decideId(held, 0, 0), 'it goes on working in its own')
})

t.test('a service keeps being that service across generations', async t => {
  const services = (call: string): string =>
    JSON.stringify({
      ...(JSON.parse(text({ a: ['x'] }, { reader: ['a:x'] })) as object),
      services: { recorder: { may: [{ call, permissions: ['a:x'] }] }, storage: {}, index: {} }
    })
  const first = await loadPolicy(services('storage'), 'p')
  const second = await loadPolicy(services('index'), 'p', { previous: first })
  const set: RoleSet = first.roleSet([], { principal: { kind: 'service', id: 'recorder' }, service: 'storage' })
  t.equal(set.service, 'svc:recorder>storage')
  t.ok(first.decideId(set, 0, 0))
  t.notOk(second.decideId(set, 0, 0))
})

t.test('role sets are cached for arrays that cannot change, and for no others', async t => {
  const policy = await loadPolicy(text({ a: ['x'] }, { reader: ['a:x'] }), 'p')
  const frozen = Object.freeze(['reader'])
  t.equal(policy.roleSet(frozen), policy.roleSet(frozen))
  const loose = ['stranger']
  t.notOk(policy.decide(loose, 'a:x', 'dev'))
  loose[0] = 'reader'
  t.ok(policy.decide(loose, 'a:x', 'dev'))
  t.not(policy.roleSet(loose), policy.roleSet(loose))
})

t.test('a large policy decides like a small one', async t => {
  const many = (count: number): string[] => Array.from({ length: count }, (_, index) => `x${index}`)
  const roles = Object.fromEntries(
    Array.from({ length: 300 }, (_, index) => [
      `r${index}`,
      [`a:x${index}`, `b:x${299 - index}`, ...(index % 7 === 0 ? ['*:x5'] : [])]
    ])
  )
  const policy = await loadPolicy(text({ a: many(300), b: many(300) }, roles), 'p')
  let wrong = 0
  for (let role = 0; role < 300; role++) {
    const set = policy.roleSet([`r${role}`])
    for (let at = 0; at < 300; at++) {
      const everywhere = role % 7 === 0 && at === 5
      if (policy.decideId(set, policy.permissionId(`a:x${at}`)!, 1) !== (everywhere || at === role)) wrong++
      if (policy.decideId(set, policy.permissionId(`b:x${at}`)!, 0) !== (everywhere || at === 299 - role)) wrong++
    }
  }
  t.equal(wrong, 0)
  t.ok(policy.sizeBytes < 300 * 600 * 2, `${policy.sizeBytes} bytes`)
})

t.test("what was not made by loadPolicy is nobody's predecessor", async t => {
  const policy = await loadPolicy(text({ a: ['x'] }, { reader: ['a:x'] }), 'p')
  await t.rejects(
    loadPolicy(text({ a: ['x'] }, { reader: ['a:x'] }), 'p', { previous: { ...policy } }),
    /was not made by loadPolicy/
  )
})
