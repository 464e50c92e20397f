import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { ANONYMOUS, problemErrorHandler, useGuard, type Authenticator } from '@marty/core'
import { loadPolicy, rbac, type Explanation, type Policy } from '@marty/rbac'
import { POLICY } from './policy-text.js'
import { decideNaively, PERMISSIONS, randomPolicy, randomQuestion, write } from './random-policy.js'

// What comes out of the thread is what loadPolicy makes, and changing it disturbs nobody.

const byRoles: Authenticator = {
  method: 'jwt',
  find: ({ headers }) => headers.authorization ?? null,
  accepts: () => true,
  authenticate: roles => ({ ...ANONYMOUS, id: 'someone', kind: 'user', roles: roles.split(','), authenticatedBy: 'jwt' })
}

async function following (t: Test, text: string): Promise<{ readonly app: FastifyInstance, load (text: string): Promise<Policy> }> {
  const folder = mkdtempSync(join(tmpdir(), 'marty-reload-'))
  const file = join(folder, 'rbac.yaml')
  writeFileSync(file, text)
  const app = Fastify()
  t.teardown(async () => {
    await app.close()
    rmSync(folder, { recursive: true })
  })
  useGuard(app, { strict: true }).addAuthenticator(byRoles)
  app.setErrorHandler(problemErrorHandler)
  await app.register(rbac, { policyFile: file, environment: 'prod', reload: false })
  return {
    app,
    async load (text) {
      writeFileSync(file, text)
      const { stale, problems } = await app.rbac.reload()
      if (stale) throw new Error(problems.map(({ message }) => message).join('\n'))
      return app.rbac.policy
    }
  }
}

/** All that can be read from a policy, without what differs from one generation to the next. */
function tellAll (policy: Policy): Record<string, unknown> {
  const { file, sha256, roles, permissions, resources, environments, environmentNames, services, rules, sizeBytes } = policy
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
    attributes: environments.map(environment => permissions.map(permission => policy.attributesOf(permission, environment)))
  }
}

const unnumbered = ({ decisionId: _, ...explanation }: Explanation): unknown => explanation

t.test('a policy from the thread decides, explains and equals Casbin as the one of loadPolicy does', async t => {
  const { app, load } = await following(t, write(fc.sample(randomPolicy, { numRuns: 1, seed: 1 })[0]!))
  const seed = Date.now() % 0x7FFFFFFF
  t.comment(`seed ${seed}`)
  let expected = await loadPolicy(write(fc.sample(randomPolicy, { numRuns: 1, seed: 1 })[0]!), app.rbac.policy.file)
  let allowed = 0
  for (const [round, made] of fc.sample(randomPolicy, { numRuns: 25, seed }).entries()) {
    expected = await loadPolicy(write(made), app.rbac.policy.file, { previous: expected })
    const adopted = await load(write(made))
    if (round === 0) t.strictSame(tellAll(adopted), tellAll(expected))
    if (JSON.stringify(tellAll(adopted)) !== JSON.stringify(tellAll(expected))) throw new Error(`they differ: ${write(made)}`)
    for (const question of fc.sample(randomQuestion, { numRuns: 20, seed: seed + round })) {
      const { roles, environment, attributes } = question
      const asked = [roles, PERMISSIONS[round % PERMISSIONS.length]!, environment, attributes] as const
      t.same(unnumbered(adopted.explain(...asked)), unnumbered(expected.explain(...asked)))
      for (const permission of PERMISSIONS) {
        const decided = adopted.decide(roles, permission, environment, attributes)
        if (decided) allowed++
        if (decided !== decideNaively(made, question, permission) || decided !== expected.decide(roles, permission, environment, attributes) ||
          decided !== adopted.decideByCasbin(roles, permission, environment, attributes)) throw new Error(`${permission} for ${JSON.stringify(question)} is decided differently: ${write(made)}`)
      }
    }
  }
  t.ok(allowed > 500, `${allowed} allowed`)
})

t.test('ids stay what they are, whatever comes and goes', async t => {
  const text = (actions: string[], environments = ['dev', 'prod']): string => JSON.stringify({
    version: 1, resources: { a: { actions } }, roles: { all: { allow: ['*:*'] } }, environments: Object.fromEntries(environments.map(name => [name, {}]))
  })
  const { app, load } = await following(t, text(['x', 'y']))
  const held = app.rbac.policy.roleSet(['all'])
  const second = await load(text(['y', 'z'], ['prod', 'next']))
  t.same(['x', 'y', 'z'].map(action => second.permissionId(`a:${action}`)), [undefined, 1, 2])
  t.same(['dev', 'prod', 'next'].map(name => second.environmentId(name)), [undefined, 1, 2])
  t.same([0, 1, 2, 3].map(id => second.decideId(held, id, 1)), [false, true, true, false])
  t.notOk(second.decideId(held, 1, 0))
  const third = await load(text(['x']))
  t.same([0, 1, 2].map(id => third.decideId(held, id, 1)), [true, false, false])
  const fourth = await loadPolicy(text(['w']), 'p', { previous: third })
  t.equal(fourth.permissionId('a:w'), 3, 'loadPolicy may follow it')
  t.equal(fourth.generation, 4)
})

t.test('a condition nested as deeply as one may be arrives, and so does its opposite', async t => {
  const nested = `${'('.repeat(18)}principal.id == "ada"${')'.repeat(18)}`
  const text = (name: string): string => JSON.stringify({
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
    t.match(policy.explain(['all'], permission, 'prod', { principal: { id: 'bob' } }).reason, /is denied to anyone if not \(/)
  }
})

t.test('1,000 reloads under load: nothing is judged wrongly, thrown, or judged by two generations', async t => {
  // In either policy the caller may do one thing and not the other, and holds the role only in that one in which the
  // permission named beside it is missing.
  const text = (allowed: string, holds: boolean, comment: number): string => JSON.stringify({
    version: 1,
    resources: { a: { actions: ['one', 'two'] }, [`comment${comment}`]: { actions: ['x'] } },
    roles: { holder: {}, caller: { ...holds ? { inherits: ['holder'] } : {}, allow: [allowed, { permission: 'a:two', when: `principal.id == "${allowed}"` }] } },
    environments: { prod: {} }
  })
  const { app, load } = await following(t, text('a:one', false, 0))
  const get = (url: string, security: object): void => { app.get(url, { config: { security } }, async () => 'done') }
  get('/one', { permission: 'a:one' })
  get('/two', { permission: 'a:two' })
  get('/never', { permission: 'a:one', roles: ['holder'] })
  await app.ready()
  const first = app.rbac.policy
  const [one, two, prod] = [first.permissionId('a:one')!, first.permissionId('a:two')!, first.environmentId('prod')!]
  const roles = Object.freeze(['caller'])
  const kept = first.roleSet(roles)

  const work = { isOver: false }
  const wrong: string[] = []
  const seen = new Map<string, number>()
  const decisions = async (): Promise<void> => {
    while (!work.isOver) {
      for (let time = 0; time < 20; time++) {
        const { policy } = app.rbac
        const judged = [policy.decideId(kept, one, prod), policy.decideId(kept, two, prod), app.can({ roles }, 'a:one'), app.can({ roles }, 'a:two')].join()
        seen.set(judged, (seen.get(judged) ?? 0) + 1)
        if (!['true,false,true,false', 'false,true,false,true'].includes(judged)) wrong.push(judged)
        const may = app.rbac.permissionsOf({ roles }).join()
        if (may !== (judged.startsWith('true') ? 'a:one' : 'a:two')) wrong.push(may)
      }
      await setImmediate()
    }
  }
  const requests = async (url: string, expected: readonly number[]): Promise<void> => {
    while (!work.isOver) {
      const { statusCode } = await app.inject({ url, headers: { authorization: 'caller' } })
      seen.set(`${url} ${statusCode}`, (seen.get(`${url} ${statusCode}`) ?? 0) + 1)
      if (!expected.includes(statusCode)) wrong.push(`${url} ${statusCode}`)
      await setImmediate()
    }
  }
  const reloads = async (): Promise<void> => {
    try {
      for (let round = 1; round <= 1000; round++) {
        const policy = await load(round % 2 === 0 ? text('a:one', false, round % 7) : text('a:two', true, round % 7))
        if (policy.generation !== round + 1) wrong.push(`generation ${policy.generation} in round ${round}`)
      }
    } finally {
      work.isOver = true
    }
  }
  await Promise.all([reloads(), decisions(), requests('/one', [200, 403]), requests('/two', [200, 403]), requests('/never', [403])])
  t.comment(Object.fromEntries(seen))
  t.same(wrong, [])
  for (const kind of ['true,false,true,false', 'false,true,false,true', '/one 200', '/one 403', '/two 200', '/two 403']) t.ok(seen.get(kind)! > 20, kind)
})

t.test('100,000 rules', async t => {
  const large = (allow: string): string => JSON.stringify({
    version: 1,
    resources: Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`r${index}`, { actions: ['view', 'edit'] }])),
    roles: { ...Object.fromEntries(Array.from({ length: 2000 }, (_, role) => [`role${role}`, { allow: Array.from({ length: 50 }, (_, index) => `r${(role * 7 + index) % 1000}:${allow}`) }])) },
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
