import { readFileSync } from 'node:fs'
import t from 'tap'
import { loadPolicy, policyJsonSchema, policyTypes, testPolicy } from '@marty/rbac'

const read = (name: string): string => readFileSync(new URL(`../../../policies/${name}`, import.meta.url), 'utf8')
const text = read('rbac_policies.yaml')
const policy = await loadPolicy(text, 'rbac_policies.yaml')

t.test('the default policy passes its own tests', async t => {
  const report = testPolicy(policy, read('rbac_policies.test.yaml'), 'rbac_policies.test.yaml')
  t.same(report.problems, [])
  t.same(report.failures, [])
  t.same(report.uncovered, [], 'a rule that no test sees apply')
  t.ok(report.passed > 2_000, `${report.passed} decisions`)
})

t.test('a widened default policy fails them', async t => {
  for (const [piece, replacement] of [
    ['      - logs:application:read\n      - camera:view', '      - logs:read\n      - camera:view'],
    ['      - file:delete\n', '      - file:delete\n      - system:admin\n'],
    ['          - code:update\n          - code:delete\n        reason', '        reason'],
    [
      '      - system:metrics\n\n  service_manager',
      '      - system:metrics\n      - system:admin\n\n  service_manager'
    ],
    ["{ permission: 'services:own:update', when: resource.name == principal.id }", "'services:own:update'"],
    [
      'when: resource.owner == principal.id or resource.team in principal.claims.teams',
      'when: resource.owner == principal.id or resource.team != ""'
    ],
    [
      'when: resource.classification in ["confidential", "secret"]\n' +
        '        reason: sensitive configuration is read by those who run it, under whatever scope it is asked for\n\n  operator',
      'when: resource.classification in ["confidential"]\n\n  operator'
    ],
    ['        roles: [admin]\n', '        roles: [admin, service_manager]\n'],
    ['when: not (principal.kind == "key")', 'when: not (principal.kind == "service")'],
    ['when: time in "06:00-22:00 UTC"', 'when: time in "00:00-24:00 UTC"'],
    ["permissions: ['event:subscribe']", "permissions: ['event:*', 'camera:view']"],
    ['  - roles: [admin, auditor]\n', '  - roles: [auditor, monitor]\n']
  ] as const) {
    if (!text.includes(piece)) throw new Error(`the policy no longer holds ${piece}`)
    const report = testPolicy(
      await loadPolicy(text.replace(piece, replacement), 'wide.yaml'),
      read('rbac_policies.test.yaml'),
      't.yaml'
    )
    t.not(report.failures.length, 0, replacement)
  }
})

t.test('it defines the roles and permissions that are built on', async t => {
  t.same(policy.roles.map(({ name }) => name).sort(), [
    'admin',
    'auditor',
    'developer',
    'monitor',
    'operator',
    'service_account',
    'service_manager',
    'viewer'
  ])
  for (const permission of [
    'camera:view',
    'stream:view',
    'snapshot:take',
    'snapshot:view',
    'recording:control',
    'recording:view',
    'system:admin'
  ]) {
    t.ok(policy.permissions.includes(permission), permission)
  }
  t.same([...policy.rolesThatHold(['operator'])].sort(), ['admin', 'operator'])
})

t.test('the generated files match it; run `node policies/generate.mjs` when this fails', async t => {
  t.same(JSON.parse(read('rbac_policies.schema.json')), policyJsonSchema())
  t.equal(read('types.d.ts'), policyTypes(policy))
})
