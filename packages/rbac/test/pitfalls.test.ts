import t from 'tap'
import { readFileSync } from 'node:fs'
import { newEnforcer, newModelFromString, StringAdapter } from 'casbin'
import { checkPolicy, loadPolicy } from '@marty/rbac'
import { POLICY, policyWith } from './policy-text.js'

// What is easy to get wrong with Casbin. Each test shows the trap where that is cheap, and that it is not ours.

const engine = readFileSync(new URL('../src/engine/casbin-engine.ts', import.meta.url), 'utf8')
const sources = ['engine/casbin-engine', 'engine/policy', 'engine/policy-index', 'conditions/evaluate', 'conditions/syntax'].map(name => readFileSync(new URL(`../src/${name}.ts`, import.meta.url), 'utf8')).join('\n')
const agree = async (text: string, questions: ReadonlyArray<readonly [string[], string, boolean]>): Promise<void> => {
  const policy = await loadPolicy(text, 'p.yaml')
  for (const [roles, permission, expected] of questions) {
    t.equal(policy.decide(roles, permission, 'production'), expected, `${roles.join('+')} ${permission}`)
    t.equal(policy.decideByCasbin(roles, permission, 'production'), expected, `${roles.join('+')} ${permission}, by Casbin`)
  }
}
const model = (matcher: string): string => `[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act, eft\n[role_definition]\ng = _, _\n[policy_effect]\ne = some(where (p.eft == allow)) && !some(where (p.eft == deny))\n[matchers]\nm = ${matcher}\n`

t.test('1: a wildcard does not swallow what comes after it', async t => {
  const trap = await newEnforcer(newModelFromString(model('keyMatch(r.obj, p.obj)')), new StringAdapter('p, a, services:*:read, read, allow'))
  t.ok(trap.enforceSync('a', 'services:billing:delete', 'read'), 'the trap')
  await agree(policyWith("allow: ['services:own:*']", "allow: ['services:*:read']"), [[['owner'], 'services:own:read', true], [['owner'], 'services:own:update', false]])
})

t.test('2: no pattern is an expression', async t => {
  for (const pattern of ['/camera/:id', '/:/x', '^(a+)+$', 'camera.view', 'camera:vi.w', 'camera:(view)', 'cam*:view']) {
    t.not(checkPolicy(policyWith("'recording:control'", JSON.stringify(pattern)), 'p').problems.length, 0, pattern)
  }
  t.notMatch(engine, /keyMatch|regexMatch|globMatch/)
})

t.test('3: a mistyped effect denies nothing silently', async t => {
  const trap = await newEnforcer(newModelFromString(model('r.sub == p.sub')), new StringAdapter('p, a, x, y, allow\np, a, x, y, Deny'))
  t.ok(trap.enforceSync('a', 'x', 'y'), 'the trap')
  for (const effect of ['Deny', 'DENY', 'denied', 'deni']) t.not(checkPolicy(policyWith("deny: ['camera:*']", `${effect}: ['camera:*']`), 'p').problems.length, 0, effect)
})

t.test('4: a rule that lacks something is no rule', async t => {
  for (const [piece, replacement] of [["permissions: ['services:own:update']", 'x: 1'], ['roles: [owner]', 'x: 1'], ["allow: ['services:own:*']", 'allow: []'], ["allow: ['services:own:*']", 'allow: [null]'], ["allow: ['services:own:*']", 'allow: [{ when: a == 1 }]']] as const) {
    t.not(checkPolicy(policyWith(piece, replacement), 'p').problems.length, 0, replacement)
  }
})

t.test('5: nothing that is missing equals anything', async t => {
  const trap = await newEnforcer(newModelFromString(model('r.sub == p.sub')), new StringAdapter('p, u, x, y, allow'))
  t.ok(trap.enforceSync(['u'], 'x', 'y'), 'the trap')
  const policy = await loadPolicy(POLICY, 'p')
  for (const roles of [[['admin']], [undefined], [null], [{}]] as unknown as string[][]) {
    t.notOk(policy.decide(roles, 'camera:view', 'dev'))
    t.notOk(policy.decideByCasbin(roles, 'camera:view', 'dev'))
  }
})

t.test('6: nothing that is asked answers with a promise', async t => {
  const trap = await newEnforcer(newModelFromString(model('later(r.sub)')), new StringAdapter('p, a, x, y, allow'))
  await trap.addFunction('later', async () => false)
  t.ok(trap.enforceSync('a', 'x', 'y'), 'the trap: a promise of false allows')
  t.notMatch(engine, /addFunction\('\w+', async/)
  const policy = await loadPolicy(`version: 1
resources: { doc: { actions: [read], attributes: { open: boolean } } }
roles: { a: { allow: [{ permission: 'doc:read', when: resource.open == true }] } }
environments: { dev: {} }
`, 'p')
  t.notOk(policy.decide(['a'], 'doc:read', 'dev', { resource: { open: Promise.resolve(true) } }))
  t.equal(policy.decide(['a'], 'doc:read', 'dev', { resource: { open: true } }), true)
})

t.test('7: no text of a policy is executed', async t => {
  t.notMatch(sources, /\beval\s*\(|new Function\(|newModelFromFile|newModel\(|FileAdapter/)
  const payload = 'constructor.constructor("process.exit(9)")()'
  for (const when of [payload, `resource.owner == "${'a'}" or ${payload}`, '`a` == "a"']) {
    t.not(checkPolicy(`version: 1
resources: { doc: { actions: [read], attributes: { owner: text } } }
roles: { a: { allow: [{ permission: 'doc:read', when: ${JSON.stringify(when)} }] } }
environments: { dev: {} }
`, 'p').problems.length, 0, when)
  }
})

t.test('8: no decision is cached', async t => {
  t.notMatch(sources, /CachedEnforcer/)
  const roles = ['viewer']
  const policy = await loadPolicy(POLICY, 'p')
  t.ok(policy.decide(roles, 'camera:view', 'dev'))
  roles.push('suspended')
  t.notOk(policy.decide(roles, 'camera:view', 'dev'))
})

t.test('9: a policy is never half loaded', async t => {
  const policy = await loadPolicy(POLICY, 'p')
  t.ok(Object.isFrozen(policy))
  const loads = Array.from({ length: 20 }, async (_, index) => await loadPolicy(index % 2 === 0 ? POLICY : 'roles: nothing', 'p', { previous: policy }).catch(() => null))
  let wrong = 0
  const asking = (async () => {
    for (let i = 0; i < 200; i++) {
      if (!policy.decide(['admin'], 'camera:view', 'dev') || policy.decide(['viewer'], 'camera:configure', 'dev') || !policy.decideByCasbin(['admin'], 'camera:view', 'dev')) wrong++
      await Promise.resolve()
    }
  })()
  const loaded = await Promise.all(loads)
  await asking
  t.equal(wrong, 0)
  t.same(loaded.map(found => found?.rules ?? 0), Array.from({ length: 20 }, (_, index) => index % 2 === 0 ? policy.rules : 0), 'nothing is loaded twice either')
})

t.test('10: ten links are followed, eleven refused, circles told at once', async t => {
  const chain = (length: number): string => POLICY.replace('roles:\n', 'roles:\n' + Array.from({ length }, (_, i) => `  c${i}: { inherits: [${i + 1 === length ? 'viewer' : `c${i + 1}`}] }\n`).join(''))
  await agree(chain(10), [[['c0'], 'camera:view', true]])
  t.match(checkPolicy(chain(11), 'p').problems, [{ message: /over more than 10 roles/ }])
  t.match(checkPolicy(policyWith('inherits: [suspended]', 'inherits: [trainee]'), 'p').problems, [{ message: /circle/ }])
})

t.test('11: a # cuts nothing off', async t => {
  t.notMatch(/m = [\s\S]*?`/.exec(engine)?.[0] ?? '#', /#/)
  t.not(checkPolicy(policyWith('camera:view', 'camera:#view'), 'p').problems.length, 0)
  const policy = await loadPolicy(`version: 1
resources: { doc: { actions: [read], attributes: { name: text } } }
roles: { a: { allow: [{ permission: 'doc:read', when: 'resource.name == "a #b"' }] } }
environments: { dev: {} }
`, 'p')
  t.notOk(policy.decide(['a'], 'doc:read', 'dev', { resource: { name: 'a' } }))
  t.ok(policy.decide(['a'], 'doc:read', 'dev', { resource: { name: 'a #b' } }))
})

t.test('12: names of prototypes are nobody', async t => {
  const policy = await loadPolicy(POLICY, 'p')
  for (const name of ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty']) {
    t.notOk(policy.decide([name], 'camera:view', 'dev'), name)
    t.notOk(policy.decideByCasbin([name], 'camera:view', 'dev'), name)
    t.throws(() => policy.decide(['admin'], name, 'dev'), { code: 'MARTY_RBAC_PERMISSION_UNKNOWN' })
    t.throws(() => policy.decide(['admin'], 'camera:view', name), RangeError)
    t.not(checkPolicy(policyWith('  suspended:', `  ${name}:`), 'p').problems.length, 0, name)
  }
})

t.test('13: nothing is allowed because nobody said anything', async t => {
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
  // @ts-expect-error a permission is a text
  t.throws(() => policy.decide([], 5, 'dev'))
  // @ts-expect-error a service is named by a text
  t.notOk(policy.decide([], 'camera:view', 'dev', { service: 5, principal: { kind: 'service', id: 'x' } }))
})
