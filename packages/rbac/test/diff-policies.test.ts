import fc from 'fast-check'
import t from 'tap'
import { diffPolicies, loadPolicy, policyMatrix, type Policy, type PolicyChange } from '@marty/rbac'
import { PERMISSIONS, randomPolicy, randomQuestion, ROLES, write } from './random-policy.js'

const BASE = `version: 1
resources:
  doc: { actions: [read, edit], attributes: { owner: text } }
roles:
  reader: { allow: ['doc:read'] }
  author: { inherits: [reader], allow: [{ permission: 'doc:edit', when: resource.owner == principal.id }] }
  auditor: {}
environments:
  development: { aliases: [dev] }
  production:
    aliases: [prod]
    deny: [{ roles: [author], permissions: ['doc:edit'] }]
services:
  robot: { may: [{ call: store, permissions: ['doc:read'] }] }
  store: {}
separation:
  - { roles: [author, auditor] }
`
const load = async (text: string): Promise<Policy> => await loadPolicy(text, 'policy.yaml')
const base = await load(BASE)
const changed = async (...edits: ReadonlyArray<readonly [string, string]>): Promise<readonly PolicyChange[]> =>
  diffPolicies(base, await load(edits.reduce((text, [from, to]) => {
    if (!text.includes(from)) throw new Error(from)
    return text.replace(from, to)
  }, BASE)))

t.test('what widens is never missed', async t => {
  t.same(diffPolicies(base, base), [])
  t.match((await changed(["    deny: [{ roles: [author], permissions: ['doc:edit'] }]\n", '']))[0], {
    subject: 'author', permission: 'doc:edit', kind: 'gain', before: 'deny', after: 'if resource.owner == principal.id', environments: ['production']
  }, 'a deny that is gone')
  const open = await changed(["{ permission: 'doc:edit', when: resource.owner == principal.id }", "'doc:edit'"])
  t.match(open.filter(({ subject }) => subject === 'author'), [{ kind: 'gain', before: 'if resource.owner == principal.id', after: 'allow', environments: ['development'] }], 'a condition that is gone')
  t.match(await changed(['resource.owner == principal.id', 'resource.owner != principal.id']), [{ subject: 'author', kind: 'maybe' }], 'a condition that is another')
  t.match((await changed(['  auditor: {}', "  auditor: {}\n  guest: { allow: ['doc:read'] }"]))[0], { subject: 'guest', kind: 'gain', environments: ['development', 'production'] }, 'a new role')
  t.match((await changed(['separation:\n  - { roles: [author, auditor] }\n', ''])).map(({ subject, kind }) => `${subject} ${kind}`), ['author + auditor gain', 'author + auditor gain'], 'a separation that is gone')
  t.match((await changed(["permissions: ['doc:read'] }] }", "permissions: ['doc:read', 'doc:edit'] }] }"])), [{ subject: 'robot calls store', permission: 'doc:edit', kind: 'gain' }], 'a service that may more')
  t.match((await changed(['  development: { aliases: [dev] }', '  development: { aliases: [dev] }\n  staging: {}'])).filter(({ subject }) => subject === 'reader'), [{ permission: 'doc:read', kind: 'gain', environments: ['staging'] }], 'a new environment')
})

t.test('a condition on the environment means another one when names change hands', async t => {
  const text = BASE.replace('resource.owner == principal.id', 'environment == "prod"')
  const moved = text.replace('aliases: [dev]', 'aliases: [dev, prod]').replace('    aliases: [prod]\n', '')
  t.match(diffPolicies(await load(text), await load(moved)), [{ subject: 'author', permission: 'doc:edit', kind: 'maybe', environments: ['development'] }])
})

t.test('what narrows is told as a loss', async t => {
  t.match(await changed(["  reader: { allow: ['doc:read'] }", '  reader: {}']), [{ subject: 'reader', kind: 'loss' }, { subject: 'author', kind: 'loss' }])
})

t.test('every decision that opens is told, between any two policies', async t => {
  let opened = 0
  await fc.assert(fc.asyncProperty(randomPolicy, randomPolicy, fc.array(randomQuestion, { minLength: 20, maxLength: 20 }), async (one, other, questions) => {
    const [before, after] = [await load(write(one)), await load(write(other))]
    const changes = diffPolicies(before, after)
    const told = new Map<string, PolicyChange['kind'][]>()
    for (const { subject, permission, kind, environments } of changes) {
      for (const environment of environments) {
        const key = `${subject} ${permission} ${environment}`
        told.set(key, [...told.get(key) ?? [], kind])
      }
    }
    for (const { roles, environment, attributes } of questions) {
      const held = roles.filter(role => ROLES.includes(role)).slice(0, 2).sort((a, b) => ROLES.indexOf(a) - ROLES.indexOf(b))
      const known = { ...attributes, service: undefined }
      if (held.length === 0) continue
      for (const permission of PERMISSIONS) {
        const [was, is] = [before, after].map(policy => policy.decide(held, permission, environment, known))
        if (was === is) continue
        const kinds = [held.join(' + '), ...held].flatMap(subject => told.get(`${subject} ${permission} ${environment}`) ?? [])
        if (is === true) {
          opened++
          if (!kinds.some(kind => kind !== 'loss')) throw new Error(`${held.join(' + ')} gains ${permission} in ${environment}, untold`)
        } else if (!kinds.some(kind => kind !== 'gain')) throw new Error(`${held.join(' + ')} loses ${permission} in ${environment}, untold`)
      }
    }
  }), { numRuns: 12, endOnFailure: true })
  t.ok(opened > 50, `${opened} decisions opened`)
})

t.test('the matrix tells how each role stands alone', async t => {
  const { environment, roles, rows } = policyMatrix(base, 'dev')
  t.equal(environment, 'development')
  t.same(roles, ['reader', 'author', 'auditor'])
  t.same(rows.map(({ permission, cells }) => [permission, ...cells.map(({ state, condition }) => condition ?? state)]), [
    ['doc:read', 'allow', 'allow', 'deny'],
    ['doc:edit', 'deny', 'resource.owner == principal.id', 'deny']
  ])
  t.throws(() => policyMatrix(base, 'moon'), /no environment "moon"/)
  const required = await load(BASE.replace('    aliases: [prod]\n', '    aliases: [prod]\n    require: [{ permissions: [\'doc:read\'], when: \'not (resource.owner == "a)") and principal.kind == "user"\' }]\n'))
  t.equal(policyMatrix(required, 'prod').rows[0]?.cells[0]?.condition, 'not (resource.owner == "a)") and principal.kind == "user"', 'what is required is told as it is written')
})
