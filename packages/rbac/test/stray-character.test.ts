import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify from 'fastify'
import t from 'tap'
import { checkPolicy, diffPolicies, lintPolicy, loadPolicy, rbac, testPolicy } from '@marty/rbac'

// One character that slipped in, went missing or was another one, anywhere in the shipped policy.

t.setTimeout(600_000)

const shipped = (name: string): string => readFileSync(new URL(`../../../policies/${name}`, import.meta.url), 'utf8')
const POLICY = shipped('rbac_policies.yaml')
const STRAY = [...'x1"\'[]{}:-# \t\n&*!%@|>?,\\=(', '\0', '\u0430', '\u200B', '\uFEFF', '\u00A0']
const lineOf = (text: string, offset: number): number => text.slice(0, offset).split('\n').length

/** Positions a prime apart, each with the next characters in turn. */
function * mutations (): Generator<{ readonly text: string; readonly line: number; readonly what: string }> {
  let turn = 0
  for (let at = 0; at < POLICY.length - 1; at += 211) {
    const line = lineOf(POLICY, at)
    const [before, after] = [POLICY.slice(0, at), POLICY.slice(at + 1)]
    yield { text: before + after, line, what: `${line}: without ${JSON.stringify(POLICY[at])}` }
    for (let taken = 0; taken < 5; taken++) {
      const stray = STRAY[turn++ % STRAY.length]!
      yield { text: before + stray + POLICY.slice(at), line, what: `${line}: with ${JSON.stringify(stray)}` }
      yield {
        text: before + stray + after,
        line,
        what: `${line}: ${JSON.stringify(stray)} for ${JSON.stringify(POLICY[at])}`
      }
    }
  }
}

t.test('a stray character is one problem where it is, and grants nothing that is in use', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'marty-stray-'))
  const [policyFile, policyTests] = ['rbac.yaml', 'rbac.test.yaml'].map(name => join(folder, name)) as [string, string]
  writeFileSync(policyFile, POLICY)
  writeFileSync(policyTests, shipped('rbac_policies.test.yaml'))
  const app = Fastify()
  t.teardown(async () => {
    await app.close()
    rmSync(folder, { recursive: true })
  })
  await app.register(rbac, {
    policyFile,
    policyTests,
    environment: 'production',
    reload: { pollMs: 60_000, refuseGain: ['production'] }
  })
  const whole = app.rbac.policy

  let [invalid, elsewhere] = [0, 0]
  for (const { text, line, what } of mutations()) {
    const { problems } = checkPolicy(text, 'p')
    if (problems.length > 3) t.fail(`${what}: ${problems.length} problems`)
    if (problems.some(({ message }) => message.includes('call stack'))) t.fail(`${what}: ${problems[0]!.message}`)
    const [first] = problems
    if (first !== undefined) {
      invalid++
      const named = [first.line, ...[...first.message.matchAll(/\bline (\d+)/g)].map(([, number]) => Number(number))]
      if (!named.includes(line) && !named.includes(line + 1)) elsewhere++
      continue
    }
    const isWider = diffPolicies(whole, await loadPolicy(text, 'p')).changes.some(
      ({ kind, environments }) => kind !== 'loss' && environments.includes('production')
    )
    if (!isWider) continue
    writeFileSync(policyFile, text)
    if (!(await app.rbac.reload()).stale) t.fail(`${what}: it grants more, and is in use`)
  }
  t.ok(invalid > 150, `${invalid} are told`)
  t.ok(elsewhere <= invalid * 0.05, `${elsewhere} of them at another line`)
})

const policyWith = (rule: string, attributes = '{ class: text, size: number }'): string => `version: 1
resources: { doc: { actions: [read], attributes: ${attributes} } }
roles:
  admin:
    allow:
      - ${rule}
environments: { development: {}, production: { aliases: [prod] } }
`
const told = (text: string): readonly string[] =>
  checkPolicy(text, 'p').problems.map(({ line, message }) => `${line} ${message}`)

t.test('a condition of which YAML takes a character for its own should be put in quotes', async t => {
  for (const condition of [
    'resource.class in ["a", "b"]',
    'resource.class == "a {b"',
    'resource.class == "a #b"',
    'resource.class == "a, b: c"'
  ]) {
    t.match(
      told(policyWith(`{ permission: 'doc:read', when: ${condition} }`)),
      [/quotes/],
      `in a flow map: ${condition}`
    )
    t.same(told(policyWith(`{ permission: 'doc:read', when: '${condition}' }`)), [], `and in quotes: ${condition}`)
  }
  t.match(told(policyWith('permission: doc:read\n        when: resource.class == "a #b"')), [/^7 .*quotes/])
})

t.test('a character that only looks right is named', async t => {
  const admin = policyWith("'doc:read'")
  t.match(told(admin.replace('admin', '\u0430dmin')), [
    /^4 .*it contains U\+0430, a letter of the Cyrillic script, which looks like "a", as character 1/
  ])
  t.match(told(admin.replace('doc:read', 'doc:re\u200Bad')), [
    /^6 .*it contains U\+200B, an invisible character, as character 7/
  ])
  t.match(told(admin.replace('doc:read', '\uFF44oc:read')), [
    /^6 .*it contains U\+FF44, a full-width character, which looks like "d"/
  ])
  t.match(told(policyWith("{ permission: 'doc:read', when: '\"\u0430dmin\" in principal.roles' }")), [/^6 .*U\+0430/])
  t.match(told(policyWith("{ permission: 'doc:read', when: 'resource.cl\u0430ss == 1' }")), [/^6 .*U\+0430/])
  t.match(told(admin.replace('version', '\u0000version')), [/^1 YAML does not allow U\+0000, a control character here/])
  t.match(told(admin.replace('  admin', '\u00A0 admin')).join('\n'), /^4 .*U\+00A0, a space that is not U\+0020/m)
})

t.test('a key that is missing is no role called null', async t => {
  t.match(told(policyWith("'doc:read'").replace('  admin:', '  :')), [/^4 "null" is not a valid name/])
})

t.test('nesting, length and number have bounds, and no mistake is of this program', async t => {
  for (const depth of [101, 1_000, 20_000]) {
    for (const text of [
      '['.repeat(depth) + ']'.repeat(depth),
      '{a: '.repeat(depth) + '}'.repeat(depth),
      '- '.repeat(depth),
      '{'.repeat(depth),
      '? '.repeat(depth)
    ]) {
      t.match(told(`version: ${text}\n`.replace('version: -', '-').replace('version: ?', '?')), [
        /^\d+ (?!.*call stack)/
      ])
    }
  }
  for (const condition of ['('.repeat(9_000), 'not '.repeat(9_000), 'resource.size == 1 and '.repeat(9_000)]) {
    t.match(told(policyWith(`{ permission: 'doc:read', when: '${condition}' }`)), [/^6 .*(at most 1000 characters)/])
  }
  const many = told(policyWith("'doc:read'") + Array.from({ length: 20_000 }, (_, index) => `k${index}: 1\n`).join(''))
  t.equal(many.length, 101)
  t.match(many.at(-1), /has 19900 more problems$/)
})

t.test('one name that is misspelt where it is declared is one problem', async t => {
  const text = POLICY.replace('  developer:\n', '  dveloper:\n')
  t.match(told(text), [
    /^\d+ "dveloper" is declared here and used nowhere, while "developer" is used in line \d+ and in \d+ other places; is one of the two misspelt\?/
  ])
})

t.test('conditions that never hold, and those that always do, are told', async t => {
  const found = async (condition: string): Promise<ReadonlyArray<readonly [string, number]>> =>
    lintPolicy(await loadPolicy(policyWith(`{ permission: 'doc:read', when: '${condition}' }`), 'p')).flatMap(
      ({ rule, line }) => (rule.startsWith('condition-') ? [[rule, line] as const] : [])
    )
  t.same(await found('resource.size > 5 and resource.size < 3'), [['condition-never-holds', 6]])
  t.same(await found('resource.class == "a" and resource.class == "b"'), [['condition-never-holds', 6]])
  t.same(await found('resource.class == "a" or resource.class != "a"'), [['condition-always-holds', 6]])
  t.same(await found('environment in ["prod", "development"]'), [['condition-always-holds', 6]])
  t.same(await found('environment == "prod"'), [])
  t.same(await found('resource.size > 5 and resource.size < 7'), [])
  const required = await loadPolicy(
    policyWith("'doc:read'").replace(
      '{ aliases: [prod] }',
      '{ require: [{ permissions: [doc:read], when: environment == "development" }] }'
    ),
    'p'
  )
  t.match(
    lintPolicy(required).filter(({ rule }) => rule.startsWith('condition-')),
    [{ rule: 'condition-never-holds', line: 7 }]
  )
  const shippedPolicy = await loadPolicy(POLICY, 'p')
  t.same(lintPolicy(shippedPolicy), [])
  t.same(testPolicy(shippedPolicy, shipped('rbac_policies.test.yaml'), 't').failures, [])
})
