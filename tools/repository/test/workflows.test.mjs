import { readdirSync } from 'node:fs'
import t from 'tap'
import { load } from 'js-yaml'
import { read, root, yamlFiles } from './files.mjs'

const workflows = yamlFiles('.github/workflows')
const manifest = JSON.parse(read('package.json'))

t.test('every workflow exists', async t => {
  t.strictSame(workflows.map(({ file }) => file.split('/').pop()).sort(), ['ci.yml', 'codeql.yml', 'commits.yml', 'release.yml'])
})

for (const { file, text, content } of workflows) {
  t.test(`${file} pins actions by a full commit hash and names their version`, async t => {
    t.strictSame(unpinned(text), [])
    const actions = Object.values(content.jobs).flatMap(job => [job.uses, ...(job.steps ?? []).map(step => step.uses)])
    t.equal(usesLines(text).length, actions.filter(Boolean).length, 'every action is on a separate line')
  })

  t.test(`${file} may read the repository, and jobs name each further permission`, async t => {
    t.strictSame(content.permissions, { contents: 'read' })
    for (const [name, job] of Object.entries(content.jobs)) {
      t.ok(job.permissions === undefined || typeof job.permissions === 'object', `${name} does not take every permission`)
    }
  })

  t.test(`${file} has one run at a time, and every job has a time limit`, async t => {
    t.type(content.concurrency.group, 'string')
    for (const [name, job] of Object.entries(content.jobs)) {
      if (job.uses === undefined) t.type(job['timeout-minutes'], 'number', name)
    }
  })

  t.test(`${file} leaves no credentials in the checkout`, async t => {
    const checkouts = steps(content).filter(step => step.uses?.startsWith('actions/checkout@'))
    for (const checkout of checkouts) t.equal(checkout.with?.['persist-credentials'], false)
  })

  t.test(`${file} puts no expression into a command, because others may have written its value`, async t => {
    for (const { run } of steps(content)) t.notMatch(run ?? '', '${{')
  })
}

t.test('an action with a tag, a branch or a short hash, or without its version, is found', async t => {
  for (const action of ['actions/checkout@v6', 'actions/checkout@main', 'actions/checkout@de0fac2 # v6.0.2',
    'actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd', 'docker://node:22', 'actions/checkout']) {
    t.strictSame(unpinned(`      - uses: ${action}\n`), [action], action)
  }
})

t.test('tests run on every Node line with long-term support, starting with the oldest one that engines allows', async t => {
  const { content } = workflows.find(({ file }) => file.endsWith('/ci.yml')) ?? { content: null }
  const lines = content.jobs.test.strategy.matrix.node.map(Number)
  const oldest = Number(/^>=(\d+)\./.exec(manifest.engines.node)?.[1])
  t.equal(Math.min(...lines), oldest)
  for (let line = oldest; line <= 24; line += 2) t.ok(lines.includes(line), `Node ${line}`)
})

t.test('all packages name the same repository, against which provenance is checked', async t => {
  const manifests = readdirSync(`${root}/packages`).map(name => JSON.parse(read(`packages/${name}/package.json`)))
  t.equal(new Set(manifests.map(({ repository }) => repository?.url)).size, 1)
  for (const { name, repository } of manifests) t.match(repository?.url, /^git\+https:.+\.git$/, name)
})

t.test('a release is tested first and published with an identity, without a stored token', async t => {
  const { text, content } = workflows.find(({ file }) => file.endsWith('/release.yml')) ?? { text: '', content: null }
  const { test, publish } = content.jobs
  t.equal(test.uses, './.github/workflows/ci.yml')
  t.ok('workflow_call' in load(read('.github/workflows/ci.yml')).on)
  t.equal(publish.needs, 'test')
  t.strictSame(publish.permissions, { contents: 'read', 'id-token': 'write' })
  t.notMatch(text, /NPM_TOKEN|NODE_AUTH_TOKEN/)
  const node = publish.steps.find(step => step.uses?.startsWith('actions/setup-node@')).with['node-version']
  t.ok(Number(node) >= 24, 'npm of Node 24 can exchange the identity')
  t.ok(publish.steps.some(step => step.env?.NPM_CONFIG_PROVENANCE === 'true'))
  for (const [name, job] of Object.entries(content.jobs)) {
    if (name !== 'publish') t.notOk(job.permissions?.['id-token'], `${name} has no identity`)
  }
})

t.test('dependencies and actions are updated weekly, in groups, and not in the first seven days after a release', async t => {
  const { updates } = load(read('.github/dependabot.yml'))
  t.strictSame(updates.map(update => update['package-ecosystem']).sort(), ['github-actions', 'npm'])
  for (const update of updates) {
    t.equal(update.schedule.interval, 'weekly')
    t.ok(update.cooldown['default-days'] >= 7)
    t.ok(Object.keys(update.groups).length > 0)
  }
})

function steps (workflow) {
  return Object.values(workflow.jobs).flatMap(job => job.steps ?? [])
}

function usesLines (text) {
  return [...text.matchAll(/^\s*(?:- )?uses:\s*(.*?)\s*$/gm)].map(([, action]) => action)
}

/** A workflow of this repository needs no hash: it is read from the same commit. */
function unpinned (text) {
  return usesLines(text).filter(action => !/^\.\/|^[\w.-]+(\/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(action))
}
