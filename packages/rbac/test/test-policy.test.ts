import t from 'tap'
import { loadPolicy, testPolicy } from '@marty/rbac'
import { POLICY } from './policy-text.js'

const policy = await loadPolicy(POLICY, 'p.yaml')

t.test('mistakes of a test file are told, and nothing is tested', async t => {
  const report = testPolicy(
    policy,
    `version: 1
principals: { a: { roles: [viewr] } }
tests:
  - { name: x, principals: [bob], environments: [prd], allow: ['camera:veiw'], deny: [nothing] }
  - { name: y, principals: [a] }
`,
    't.yaml'
  )
  t.equal(report.passed, 0)
  t.same(
    report.problems.map(({ line, message }) => `${line} ${message}`),
    [
      '2 there is no role "viewr"; did you mean "viewer"?',
      '4 there is no principal "bob"',
      '4 there is no environment "prd"; did you mean "prod"?',
      '4 there is no permission "camera:veiw"; did you mean "camera:view"?',
      '4 there is no permission "nothing"',
      '5 the test "y" expects nothing; add allow, deny or only'
    ]
  )
  t.match(testPolicy(policy, 'tests: [', 't.yaml').problems, [{ source: 't.yaml' }])
  t.match(testPolicy(policy, 'version: 1\nprincipals: {a: {roles: []}}\ntest: []\n', 't.yaml').problems, [
    { message: 'unknown key "test"; did you mean "tests"?' }
  ])
})

t.test('a wrong expectation fails where it is written, and says why', async t => {
  const report = testPolicy(
    policy,
    `version: 1
principals: { owner: { roles: [owner] } }
tests:
  - name: owners work
    principals: [owner]
    environments: [dev, prod]
    allow: ['services:own:read', 'services:own:update']
    deny: ['services:own:*']
`,
    't.yaml'
  )
  t.equal(report.passed, 4)
  t.same(
    report.failures.map(({ line, message }) => `${line} ${message}`),
    [
      '7 owners work: owner must be allowed services:own:update in prod, ' +
        'but owner is denied services:own:update in production: frozen (p.yaml:28:23)',
      '8 owners work: owner must not be allowed services:own:read in dev, but owner is allowed services:own:* (p.yaml:18:13)',
      '8 owners work: owner must not be allowed services:own:update in dev, but owner is allowed services:own:* (p.yaml:18:13)',
      '8 owners work: owner must not be allowed services:own:read in prod, but owner is allowed services:own:* (p.yaml:18:13)'
    ]
  )
})

t.test('"only" denies everything it does not name', async t => {
  const only = (names: string): number =>
    testPolicy(
      policy,
      `version: 1\nprincipals: { v: { roles: [viewer] } }\ntests: [{ name: x, principals: [v], only: [${names}] }]\n`,
      't.yaml'
    ).failures.length
  t.equal(only("'camera:view', 'recording:view', 'services:public:read'"), 0)
  t.equal(only("'camera:view', 'recording:view'"), 2, 'once in each environment')
})
