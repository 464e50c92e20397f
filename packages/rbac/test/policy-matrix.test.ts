import fc from 'fast-check'
import t from 'tap'
import { loadPolicy, policyMatrix } from '@marty/rbac'
import { randomPolicy, write } from './random-policy.js'

const policy = await loadPolicy(
  `version: 1
resources:
  doc: { actions: [read, write], attributes: { size: number } }
  log: { actions: [read] }
roles:
  reader: { allow: ['doc:read', { permission: 'doc:write', when: 'resource.size < 5' }] }
  writer: { inherits: [reader], allow: ['doc:write'], deny: ['log:read'] }
environments:
  development: {}
  production:
    aliases: [prod]
    deny:
      - { roles: [reader], permissions: ['doc:write'], when: 'resource.size > 2' }
      - { roles: [writer], permissions: ['doc:read'] }
`,
  'policy.yaml'
)

t.test('an unknown environment is refused', async t => {
  t.throws(() => policyMatrix(policy, { environment: 'prodution' }), {
    name: 'RangeError',
    message: 'The policy defines no environment "prodution"; did you mean "production"?'
  })
})

t.test('every role, permission and environment has its cell', async t => {
  const none = { state: 'none', inherited: false }
  const deny = { state: 'deny', inherited: false }
  const allow = { state: 'allow', inherited: false }
  t.same(policyMatrix(policy), {
    roles: ['reader', 'writer'],
    environments: [
      {
        environment: 'development',
        resources: [
          {
            resource: 'doc',
            rows: [
              { permission: 'doc:read', cells: [allow, { state: 'allow', inherited: true }] },
              {
                permission: 'doc:write',
                cells: [{ state: 'if', inherited: false, condition: 'resource.size < 5' }, allow]
              }
            ]
          },
          { resource: 'log', rows: [{ permission: 'log:read', cells: [none, deny] }] }
        ]
      },
      {
        environment: 'production',
        resources: [
          {
            resource: 'doc',
            rows: [
              { permission: 'doc:read', cells: [allow, deny] },
              {
                permission: 'doc:write',
                cells: [{ state: 'if', inherited: false, condition: 'resource.size < 5 and resource.size <= 2' }, allow]
              }
            ]
          },
          { resource: 'log', rows: [{ permission: 'log:read', cells: [none, deny] }] }
        ]
      }
    ]
  })
  t.same(policyMatrix(policy, { environment: 'prod' }).environments, [policyMatrix(policy).environments[1]])
})

t.test('what is required is told as it is to hold', async t => {
  const required = await loadPolicy(
    `version: 1
resources: { doc: { actions: [read], attributes: { owner: text } } }
roles: { reader: { allow: ['doc:read'] } }
environments:
  production:
    require: [{ permissions: ['doc:read'], when: 'not (resource.owner == "a)") and principal.kind == "user"' }]
`,
    'policy.yaml'
  )
  t.equal(
    policyMatrix(required).environments[0]?.resources[0]?.rows[0]?.cells[0]?.condition,
    'principal.kind == "user" and resource.owner != "a)"'
  )
})

t.test('cells agree with decisions, whatever the policy', async t => {
  let cells = 0
  await fc.assert(
    fc.asyncProperty(randomPolicy, async made => {
      const policy = await loadPolicy(write(made), 'random.yaml')
      const { roles, environments } = policyMatrix(policy)
      for (const { environment, resources } of environments) {
        for (const { permission, cells: row } of resources.flatMap(({ rows }) => rows)) {
          for (const [at, { state }] of row.entries()) {
            cells++
            const allowed = policy.decide([roles[at]!], permission, environment)
            if (state !== 'if' && allowed !== (state === 'allow')) {
              throw new Error(`${roles[at]} ${permission} ${environment}: ${state}, decided ${allowed}`)
            }
          }
        }
      }
    }),
    { numRuns: 20 }
  )
  t.ok(cells > 0)
})
