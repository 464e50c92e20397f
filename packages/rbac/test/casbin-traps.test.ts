import t from 'tap'
import { readFileSync } from 'node:fs'
import { newEnforcer, newModelFromString, StringAdapter, type Enforcer } from 'casbin'
import { checkPolicy, loadPolicy } from '@marty/rbac'
import { POLICY, policyWith } from './policy-text.js'

// What is easy to get wrong with Casbin. Each test shows the trap where that is cheap, and that this package avoids it.

const compiled = (name: string): string => readFileSync(new URL(`../dist/${name}.js`, import.meta.url), 'utf8')
const engine = compiled('engine/casbin-engine')
const parts = ['engine/policy', 'engine/policy-index', 'conditions/evaluate', 'conditions/syntax'].map(compiled)
const code = [engine, ...parts].join('\n')

type Decision = readonly [roles: string[], permission: string, expected: boolean]

/** Checks that the index and Casbin both decide as expected. */
async function bothDecide (text: string, decisions: readonly Decision[]): Promise<void> {
  const policy = await loadPolicy(text, 'p.yaml')
  for (const [roles, permission, expected] of decisions) {
    const what = `${roles.join('+')} ${permission}`
    t.equal(policy.decide(roles, permission, 'production'), expected, what)
    t.equal(policy.decideByCasbin(roles, permission, 'production'), expected, `${what}, by Casbin`)
  }
}

const isRefused = (text: string, what: string): void => {
  t.not(checkPolicy(text, 'p').problems.length, 0, what)
}

/** A policy with one declared attribute and one condition. */
const withCondition = (attribute: string, when: string): string => `version: 1
resources: { doc: { actions: [read], attributes: { ${attribute} } } }
roles: { a: { allow: [{ permission: 'doc:read', when: ${when} }] } }
environments: { dev: {} }
`

/** Loads rows into Casbin itself, with a model that has this matcher. */
const casbinWith = async (matcher: string, rows: string): Promise<Enforcer> => await newEnforcer(newModelFromString(`
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = ${matcher}
`), new StringAdapter(rows))

t.test('1: a wildcard matches one segment only', async t => {
  const trap = await casbinWith('keyMatch(r.obj, p.obj)', 'p, a, services:*:read, read, allow')
  t.ok(trap.enforceSync('a', 'services:billing:delete', 'read'), 'the trap')
  await bothDecide(policyWith("allow: ['services:own:*']", "allow: ['services:*:read']"), [
    [['owner'], 'services:own:read', true],
    [['owner'], 'services:own:update', false]
  ])
})

t.test('2: no pattern is an expression', async t => {
  for (const pattern of ['/camera/:id', '/:/x', '^(a+)+$', 'camera.view', 'camera:vi.w', 'camera:(view)', 'cam*:view']) {
    isRefused(policyWith("'recording:control'", JSON.stringify(pattern)), pattern)
  }
  t.notMatch(engine, /keyMatch|regexMatch|globMatch/)
})

t.test('3: a mistyped effect is refused, not ignored', async t => {
  const trap = await casbinWith('r.sub == p.sub', 'p, a, x, y, allow\np, a, x, y, Deny')
  t.ok(trap.enforceSync('a', 'x', 'y'), 'the trap')
  for (const effect of ['Deny', 'DENY', 'denied', 'deni']) {
    isRefused(policyWith("deny: ['camera:*']", `${effect}: ['camera:*']`), effect)
  }
})

t.test('4: an incomplete rule is refused', async t => {
  const own = "allow: ['services:own:*']"
  for (const [piece, replacement] of [
    ["permissions: ['services:own:update']", 'x: 1'],
    ['roles: [owner]', 'x: 1'],
    [own, 'allow: []'],
    [own, 'allow: [null]'],
    [own, 'allow: [{ when: a == 1 }]']
  ] as const) isRefused(policyWith(piece, replacement), replacement)
})

t.test('5: a value of another type is never equal to a role', async t => {
  const trap = await casbinWith('r.sub == p.sub', 'p, u, x, y, allow')
  t.ok(trap.enforceSync(['u'], 'x', 'y'), 'the trap')
  const policy = await loadPolicy(POLICY, 'p')
  for (const roles of [[['admin']], [undefined], [null], [{}]] as unknown as string[][]) {
    t.notOk(policy.decide(roles, 'camera:view', 'dev'))
    t.notOk(policy.decideByCasbin(roles, 'camera:view', 'dev'))
  }
})

t.test('6: a promise never counts as true', async t => {
  const trap = await casbinWith('later(r.sub)', 'p, a, x, y, allow')
  await trap.addFunction('later', async () => false)
  t.ok(trap.enforceSync('a', 'x', 'y'), 'the trap: a promise of false allows')
  t.notMatch(engine, /addFunction\('\w+', async/)
  const policy = await loadPolicy(withCondition('open: boolean', 'resource.open == true'), 'p')
  t.notOk(policy.decide(['a'], 'doc:read', 'dev', { resource: { open: Promise.resolve(true) } }))
  t.equal(policy.decide(['a'], 'doc:read', 'dev', { resource: { open: true } }), true)
})

t.test('7: no text of a policy is executed', async t => {
  t.notMatch(code, /\beval\s*\(|new Function\(|newModelFromFile|newModel\(|FileAdapter/)
  const payload = 'constructor.constructor("process.exit(9)")()'
  for (const when of [payload, `resource.owner == "${'a'}" or ${payload}`, '`a` == "a"']) {
    isRefused(withCondition('owner: text', JSON.stringify(when)), when)
  }
})

t.test('8: no decision is cached', async t => {
  const roles = ['viewer']
  const policy = await loadPolicy(POLICY, 'p')
  t.ok(policy.decide(roles, 'camera:view', 'dev'))
  t.ok(policy.decideByCasbin(roles, 'camera:view', 'dev'))

  roles.push('suspended')
  t.notOk(policy.decide(roles, 'camera:view', 'dev'))
  t.notOk(policy.decideByCasbin(roles, 'camera:view', 'dev'))
})

t.test('9: a policy is never half loaded', async t => {
  const policy = await loadPolicy(POLICY, 'p')
  t.ok(Object.isFrozen(policy))
  const loads = Array.from({ length: 20 }, async (_, index) => {
    const text = index % 2 === 0 ? POLICY : 'roles: nothing'
    return await loadPolicy(text, 'p', { previous: policy }).catch(() => null)
  })
  let wrong = 0
  const deciding = (async () => {
    for (let i = 0; i < 200; i++) {
      const isWrong = !policy.decide(['admin'], 'camera:view', 'dev') ||
        policy.decide(['viewer'], 'camera:configure', 'dev') ||
        !policy.decideByCasbin(['admin'], 'camera:view', 'dev')
      if (isWrong) wrong++
      await Promise.resolve()
    }
  })()
  const loaded = await Promise.all(loads)
  await deciding
  t.equal(wrong, 0)
  const expected = Array.from({ length: 20 }, (_, index) => index % 2 === 0 ? policy.rules : 0)
  t.same(loaded.map(found => found?.rules ?? 0), expected, 'no rule is loaded twice')
})

t.test('10: ten links of inheritance are followed; eleven and circles are refused', async t => {
  const chain = (length: number): string => {
    const parents = [...Array.from({ length: length - 1 }, (_, i) => `c${i + 1}`), 'viewer']
    return POLICY.replace('roles:\n', 'roles:\n' + parents.map((name, i) => `  c${i}: { inherits: [${name}] }\n`).join(''))
  }
  await bothDecide(chain(10), [[['c0'], 'camera:view', true]])
  t.match(checkPolicy(chain(11), 'p').problems, [{ message: /over more than 10 roles/ }])
  t.match(checkPolicy(policyWith('inherits: [suspended]', 'inherits: [trainee]'), 'p').problems, [{ message: /circle/ }])
})

t.test('11: a # does not cut off a matcher, a pattern or a condition', async t => {
  t.notMatch(/m = [\s\S]*?`/.exec(engine)?.[0] ?? '#', /#/)
  isRefused(policyWith('camera:view', 'camera:#view'), 'camera:#view')
  const policy = await loadPolicy(withCondition('name: text', '\'resource.name == "a #b"\''), 'p')
  t.notOk(policy.decide(['a'], 'doc:read', 'dev', { resource: { name: 'a' } }))
  t.ok(policy.decide(['a'], 'doc:read', 'dev', { resource: { name: 'a #b' } }))
})

t.test('12: names of prototype members are not roles', async t => {
  const policy = await loadPolicy(POLICY, 'p')
  for (const name of ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty']) {
    t.notOk(policy.decide([name], 'camera:view', 'dev'), name)
    t.notOk(policy.decideByCasbin([name], 'camera:view', 'dev'), name)
    t.throws(() => policy.decide(['admin'], name, 'dev'), { code: 'MARTY_RBAC_PERMISSION_UNKNOWN' })
    t.throws(() => policy.decide(['admin'], 'camera:view', name), RangeError)
    isRefused(policyWith('  suspended:', `  ${name}:`), name)
  }
})

t.test('13: what no rule mentions is denied', async t => {
  const policy = await loadPolicy(`version: 1
resources: { doc: { actions: [read] } }
roles: { a: { deny: ['doc:read'] }, b: {} }
environments: { dev: {} }
`, 'p')
  for (const roles of [[], ['a'], ['b'], ['a', 'b'], ['c']]) {
    t.notOk(policy.decide(roles, 'doc:read', 'dev'))
    t.notOk(policy.decideByCasbin(roles, 'doc:read', 'dev'))
    t.notOk(policy.explain(roles, 'doc:read', 'dev').allowed)
  }
})

t.test('14: a wrong type does not compile', async t => {
  const policy = await loadPolicy(POLICY, 'p')
  // @ts-expect-error roles are a list
  t.throws(() => policy.decide(5, 'camera:view', 'dev'))
  // @ts-expect-error a permission is a string
  t.throws(() => policy.decide([], 5, 'dev'))
  // @ts-expect-error the name of a service is a string
  t.notOk(policy.decide([], 'camera:view', 'dev', { service: 5, principal: { kind: 'service', id: 'x' } }))
})
