import fc from 'fast-check'
import t from 'tap'
import { loadPolicy, type Explanation, type Policy } from '@marty/rbac'
import { following } from './following.js'
import { POLICY } from './policy-text.js'
import { decideNaively, PERMISSIONS, randomPolicy, randomQuestion, write } from './random-policy.js'

// What comes out of the thread is what loadPolicy makes.

t.setTimeout(120_000)

/** All that can be read from a policy, without what differs from one generation to the next. */
function tellAll (policy: Policy): Record<string, unknown> {
  const { file, sha256, roles, permissions, resources, environments, environmentNames, services, rules, sizeBytes } =
    policy
  return {
    file,
    sha256,
    roles,
    permissions,
    resources,
    environments,
    services,
    rules,
    sizeBytes,
    names: [...environmentNames],
    ids: permissions.map(name => policy.permissionId(name)),
    environmentIds: environments.map(name => policy.environmentId(name)),
    holders: roles.map(({ name }) => [...policy.rolesThatHold([name])].sort()),
    attributes: environments.map(environment =>
      permissions.map(permission => policy.attributesOf(permission, environment))
    )
  }
}

const unnumbered = ({ decisionId: _, ...explanation }: Explanation): unknown => explanation

t.test('a policy from the thread decides, explains and equals Casbin as the one of loadPolicy does', async t => {
  const { app, load } = await following(t, write(fc.sample(randomPolicy, { numRuns: 1, seed: 1 })[0]!))
  const seed = Date.now() % 0x7fffffff
  t.comment(`seed ${seed}`)
  let expected = await loadPolicy(write(fc.sample(randomPolicy, { numRuns: 1, seed: 1 })[0]!), app.rbac.policy.file)
  let allowed = 0
  for (const [round, made] of fc.sample(randomPolicy, { numRuns: 25, seed }).entries()) {
    expected = await loadPolicy(write(made), app.rbac.policy.file, { previous: expected })
    const adopted = await load(write(made))
    if (round === 0) t.strictSame(tellAll(adopted), tellAll(expected))
    if (JSON.stringify(tellAll(adopted)) !== JSON.stringify(tellAll(expected))) {
      throw new Error(`they differ: ${write(made)}`)
    }
    for (const question of fc.sample(randomQuestion, { numRuns: 20, seed: seed + round })) {
      const { roles, environment, attributes } = question
      const asked = [roles, PERMISSIONS[round % PERMISSIONS.length]!, environment, attributes] as const
      t.same(unnumbered(adopted.explain(...asked)), unnumbered(expected.explain(...asked)))
      for (const permission of PERMISSIONS) {
        const decided = adopted.decide(roles, permission, environment, attributes)
        if (decided) allowed++
        if (
          decided !== decideNaively(made, question, permission) ||
          decided !== expected.decide(roles, permission, environment, attributes) ||
          decided !== adopted.decideByCasbin(roles, permission, environment, attributes)
        ) {
          throw new Error(`${permission} for ${JSON.stringify(question)} is decided differently: ${write(made)}`)
        }
      }
    }
  }
  t.ok(allowed > 500, `${allowed} allowed`)
})

t.test('ids stay what they are, whatever comes and goes', async t => {
  const text = (actions: string[], environments = ['dev', 'prod']): string =>
    JSON.stringify({
      version: 1,
      resources: { a: { actions } },
      roles: { all: { allow: ['*:*'] } },
      environments: Object.fromEntries(environments.map(name => [name, {}]))
    })
  const { app, load } = await following(t, text(['x', 'y']))
  const held = app.rbac.policy.roleSet(['all'])
  const second = await load(text(['y', 'z'], ['prod', 'next']))
  t.same(
    ['x', 'y', 'z'].map(action => second.permissionId(`a:${action}`)),
    [undefined, 1, 2]
  )
  t.same(
    ['dev', 'prod', 'next'].map(name => second.environmentId(name)),
    [undefined, 1, 2]
  )
  t.same(
    [0, 1, 2, 3].map(id => second.decideId(held, id, 1)),
    [false, true, true, false]
  )
  t.notOk(second.decideId(held, 1, 0))
  t.notOk(second.decide(['all'], 'a:x', 'prod'), 'no program fails because a permission is gone')
  t.throws(() => second.decide(['all'], 'a:w', 'prod'), { code: 'MARTY_RBAC_PERMISSION_UNKNOWN' })
  const third = await load(text(['x']))
  t.same(
    [0, 1, 2].map(id => third.decideId(held, id, 1)),
    [true, false, false]
  )
  const fourth = await loadPolicy(text(['w']), 'p', { previous: third })
  t.equal(fourth.permissionId('a:w'), 3, 'loadPolicy may follow it')
  t.equal(fourth.generation, 4)
})

t.test('a condition nested as deeply as one may be arrives, and so does its opposite', async t => {
  const nested = `${'('.repeat(18)}principal.id == "ada"${')'.repeat(18)}`
  const text = (name: string): string =>
    JSON.stringify({
      version: 1,
      resources: { [name]: { actions: ['x'] } },
      roles: { all: { allow: [{ permission: '*:*', when: nested }] } },
      environments: { prod: { require: [{ permissions: ['*:*'], when: nested }] } }
    })
  const { app, load } = await following(t, text('a'))
  const policies = [app.rbac.policy, await load(text('b'))]
  for (const [index, policy] of policies.entries()) {
    const permission = policy.permissions[0]!
    t.equal(permission, ['a:x', 'b:x'][index])
    t.ok(policy.decide(['all'], permission, 'prod', { principal: { id: 'ada' } }))
    t.notOk(policy.decide(['all'], permission, 'prod', { principal: { id: 'bob' } }))
    t.match(
      policy.explain(['all'], permission, 'prod', { principal: { id: 'bob' } }).reason,
      /is denied to anyone if not \(/
    )
  }
})

t.test('100,000 rules', async t => {
  const large = (allow: string): string =>
    JSON.stringify({
      version: 1,
      resources: Object.fromEntries(
        Array.from({ length: 1000 }, (_, index) => [`r${index}`, { actions: ['view', 'edit'] }])
      ),
      roles: {
        ...Object.fromEntries(
          Array.from({ length: 2000 }, (_, role) => [
            `role${role}`,
            { allow: Array.from({ length: 50 }, (_, index) => `r${(role * 7 + index) % 1000}:${allow}`) }
          ])
        )
      },
      environments: { production: { aliases: ['prod'] } }
    })
  const { load } = await following(t, POLICY)
  const policy = await load(large('view'))
  t.equal(policy.rules, 100_000)
  t.ok(policy.decide(['role1'], 'r7:view', 'prod'))
  t.notOk(policy.decide(['role1'], 'r7:edit', 'prod'))
  t.notOk(policy.decide(['role1'], 'r6:view', 'prod'))
  t.ok(policy.decideByCasbin(['role1'], 'r7:view', 'prod'))
  const edit = await load(large('edit'))
  t.ok(edit.decide(['role1'], 'r7:edit', 'prod'))
  t.match(edit.explain(['role1'], 'r7:edit', 'prod'), { allowed: true, rule: { role: 'role1', permission: 'r7:edit' } })
})
