import t from 'tap'
import { lintPolicy, loadPolicy, type PolicyFinding } from '@marty/rbac'

const CLEAN = `version: 1
resources:
  doc:
    actions: [read, edit]
    scopes: [own]
    attributes: { owner: text }
  log: { actions: [read] }
roles:
  reader: { allow: ['doc:read'] }
  author:
    inherits: [reader]
    allow:
      - { permission: 'doc:own:edit', when: resource.owner == principal.id }
  auditor: { allow: ['log:read'], deny: ['doc:edit'] }
  admin: { inherits: [author], allow: ['*:*'] }
environments:
  production:
    require: [{ permissions: ['log:read'], roles: [admin] }]
services:
  robot: { may: [{ call: store, permissions: ['doc:read'] }] }
  store: {}
separation:
  - { roles: [auditor, author] }
`
const lint = async (text: string): Promise<readonly PolicyFinding[]> =>
  lintPolicy(await loadPolicy(text, 'policy.yaml'))
const edited = async (...edits: ReadonlyArray<readonly [from: string, to: string]>): Promise<string[]> =>
  (
    await lint(
      edits.reduce((text, [from, to]) => {
        if (!text.includes(from)) throw new Error(`no ${from}`)
        return text.replace(from, to)
      }, CLEAN)
    )
  ).map(({ line, column, message, rule }) => `${line}:${column} ${rule}: ${message}`)

t.test('a policy that is meant as it is written has no findings', async t => {
  t.same(await lint(CLEAN), [])
})

t.test('each thing that is probably not meant is told where it stands', async t => {
  t.same(
    await edited(["allow: ['*:*']", "allow: ['log:read']"], ['actions: [read, edit]', 'actions: [read, edit, erase]']),
    ['4:27 never-granted: nobody is allowed doc:erase']
  )
  t.same(await edited(['attributes: { owner: text }', 'attributes: { owner: text, size: number }']), [
    '6:32 unused-attribute: no condition asks about size of doc'
  ])
  t.same(await edited(['roles:\n', 'roles:\n  nobody: {}\n']), [
    '9:3 unreachable-role: "nobody" gives nothing, takes nothing away and is named nowhere'
  ])
  t.same(await edited(['inherits: [author]', 'inherits: [author, reader]']), [
    '15:31 redundant-inheritance: "author" brings "reader" already'
  ])
  t.same(await edited(['    allow:\n', "    allow:\n      - 'doc:read'\n"]), [
    '13:9 redundant-grant: doc:read is given by doc:read of "reader" already'
  ])
  t.same(
    await edited([
      "reader: { allow: ['doc:read'] }",
      "reader: { allow: ['doc:read', { permission: 'doc:own:read', when: resource.owner == principal.id }] }"
    ]),
    ['9:33 redundant-grant: doc:own:read is given by doc:read already'],
    'a condition does not narrow what is given without one'
  )
  t.same(await edited(["deny: ['doc:edit']", "deny: ['doc:edit', 'log:*']"]), [
    '14:22 shadowed-grant: log:read is always denied by log:* of the same role'
  ])
  t.same(
    await edited(["reader: { allow: ['doc:read'] }", "reader: { allow: ['doc:read'], deny: ['doc:read'] }"]),
    [],
    'who inherits the role has the grant without its deny'
  )
  t.same(await edited(["permissions: ['doc:read'] }]", "permissions: ['doc:*'] }]"]), [
    '20:47 wildcard-overgrant: doc:* lets a service do whatever is added later; ' +
        'name what is meant, or give a reason'
  ])
  t.same(
    await edited(["reader: { allow: ['doc:read'] }", "reader: { allow: ['doc:*'] }"]).then(found =>
      found.filter(line => line.includes('wildcard'))
    ),
    [
      '9:21 wildcard-overgrant: doc:* reaches every role that inherits "reader", and whatever is added later; ' +
        'name what is meant, or give a reason'
    ]
  )
  t.same(
    await edited([
      "reader: { allow: ['doc:read'] }",
      "reader: { allow: [{ permission: 'log:*', reason: all of them are harmless }] }"
    ]).then(found => found.filter(line => line.includes('wildcard'))),
    []
  )
  t.same(
    await edited(
      ['  - { roles: [auditor, author] }', '  - { roles: [auditor, author] }\n  - { roles: [guest, stranger] }'],
      ['roles:\n', 'roles:\n  guest: {}\n  stranger: {}\n']
    ),
    ['26:5 idle-separation: none of these roles gives anything, so keeping them apart takes nothing away']
  )
})

t.test('a deny, or a requirement, of what nobody is allowed', async t => {
  const text = `version: 1
resources: { doc: { actions: [read, erase], scopes: [own, all] } }
roles: { reader: { allow: ['doc:own:read'], deny: ['doc:erase', 'doc:all:read', 'doc:own:*'] }, chief: { inherits: [reader] } }
environments: { production: { require: [{ permissions: ['doc:erase'], roles: [chief] }] } }
`
  t.same(
    (await lint(text)).map(({ rule, column, line }) => `${line}:${column} ${rule}`),
    ['2:37 never-granted', '3:52 idle-deny', '3:65 idle-deny', '4:57 idle-deny']
  )
})

t.test('a large policy is told of within bounds', async t => {
  const actions = Array.from({ length: 1_000 }, (_, i) => `a${i}`)
  const roles = Object.fromEntries(
    Array.from({ length: 300 }, (_, i) => [
      `role${i}`,
      { ...(i === 0 ? {} : { inherits: ['role0'] }), allow: actions.slice(0, 40).map(action => `doc:${action}`) }
    ])
  )
  const found = await lint(
    JSON.stringify({ version: 1, resources: { doc: { actions } }, roles, environments: { production: {} } })
  )
  t.same(
    new Map(
      [...new Set(found.map(({ rule }) => rule))].map(rule => [rule, found.filter(one => one.rule === rule).length])
    ),
    new Map([
      ['never-granted', 100],
      ['redundant-grant', 100]
    ])
  )
})
