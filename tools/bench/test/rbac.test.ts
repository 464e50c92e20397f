import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { lowestMedian, policyData, rightAnswers } from '@marty/bench'
import { loadPolicy } from '@marty/rbac'
import t from 'tap'

t.test('an engine that answers wrong is not timed', async t => {
  const questions = policyData(10).questions(8, 1)
  t.throws(
    () => {
      rightAnswers('yes', questions, () => true)
    },
    { message: /^yes gives a wrong answer: role\d must not be allowed resource\d:/ }
  )
  t.throws(
    () => {
      rightAnswers('no', questions, () => false)
    },
    { message: /^no gives a wrong answer: role\d must be allowed resource\d:/ }
  )
  rightAnswers('right', questions, at => questions[at]!.allowed)
})

t.test('the data is a policy of so many rules, the same every time, with every kind of rule', async t => {
  const data = policyData(1_000)
  t.equal(policyData(1_000).text, data.text)
  const policy = await loadPolicy(data.text, 'p')
  t.equal(policy.rules, 1_000)
  for (const rolesEach of [1, 3, 8]) {
    const questions = data.questions(200, rolesEach)
    t.equal(questions.filter(({ allowed }) => allowed).length, 100)
    t.ok(questions.every(({ roles }) => roles.length === rolesEach && Object.isFrozen(roles)))
  }
  for (const piece of [
    'inherits:',
    'deny:',
    'when:',
    'production:\n    description: One of two\n    deny:',
    'development:\n    description: One of two\n    deny:'
  ]) {
    t.ok(data.text.includes(piece), piece)
  }
  const { roles, permission } = data.conditioned(1)[0]!
  t.equal(
    policy.decide(roles, permission, 'production', { principal: { id: 'alice' }, resource: { owner: 'alice' } }),
    true
  )
  t.equal(
    policy.decide(roles, permission, 'production', { principal: { id: 'alice' }, resource: { owner: 'bob' } }),
    false
  )
})

t.test('the lowest median is of five runs, in the order they were made', async t => {
  t.equal(lowestMedian([9, 8, 5, 5, 1, 9, 7, 7, 6, 6]), 5)
  t.equal(lowestMedian([3, 1, 2]), 2)
})

t.test('a run has exactly the metrics it promises, each beside its goal', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'bench-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'rbac.json')
  const { stdout } = await promisify(execFile)(process.execPath, [
    resolve(import.meta.dirname, '../dist/main.js'),
    'rbac',
    '--quick',
    '--json',
    file
  ])
  const { metrics, versions } = JSON.parse(await readFile(file, 'utf8'))
  t.strictSame(Object.keys(metrics), [
    'id_1role_ns',
    'id_3roles_ns',
    'id_8roles_ns',
    'strings_10k_ns',
    'x_enforcesync_1k',
    'x_enforcesync_10k',
    'growth_10_to_10k',
    'x_casl',
    'x_accesscontrol',
    'conditioned_ns',
    'hook_added_us',
    'reload_10k_ms',
    'reload_10k_pause_ms',
    'reload_100k_ms',
    'memory_vs_casbin'
  ])
  for (const [key, value] of Object.entries(metrics)) {
    t.ok(Number.isFinite(value), key)
    t.match(stdout, new RegExp(`${key} .*goal `))
  }
  t.match(versions, { casbin: /^5\./, '@casl/ability': /^7\./, accesscontrol: /^3\./ })
  // Ratios of what ran side by side, far below what they are.
  t.ok(metrics.x_enforcesync_1k > 1_000, `x_enforcesync_1k ${metrics.x_enforcesync_1k}`)
  t.ok(metrics.x_enforcesync_10k > 10_000, `x_enforcesync_10k ${metrics.x_enforcesync_10k}`)
  t.ok(metrics.memory_vs_casbin > 0 && metrics.memory_vs_casbin < 1, `memory_vs_casbin ${metrics.memory_vs_casbin}`)
})
