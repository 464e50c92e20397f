import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { refuses, run } from './run.js'

const folder = mkdtempSync(join(tmpdir(), 'marty-diff-'))
t.teardown(() => { rmSync(folder, { recursive: true }) })
const write = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const OLD = `version: 1
resources: { report: { actions: [read, write], attributes: { owner: text } } }
roles:
  reader: { allow: ['report:read'] }
  writer: { inherits: [reader], allow: [{ permission: 'report:write', when: resource.owner == principal.id }] }
environments:
  development: {}
  production: { aliases: [prod], deny: [{ roles: [reader], permissions: ['report:read'] }] }
`
const old = write('old.yaml', OLD)
const wider = write('wider.yaml', OLD.replace(", deny: [{ roles: [reader], permissions: ['report:read'] }]", ''))
const narrower = write('narrower.yaml', OLD.replace("reader: { allow: ['report:read'] }", 'reader: {}'))
const other = write('other.yaml', OLD.replace('resource.owner ==', 'resource.owner !='))
const broken = write('broken.yaml', OLD.replace('report:read', 'report:raed'))

t.test('wrong command lines and policies', async t => {
  await refuses(t, [
    [2, /policy diff needs NEW/, ['policy', 'diff', old]],
    [2, /absent\.yaml cannot be read: there is no such file/, ['policy', 'diff', old, join(folder, 'absent.yaml')]],
    [2, /neither policy defines an environment "prdo"; did you mean "prod"\?/, ['policy', 'diff', old, wider, '--fail-on-gain', 'prdo']],
    [3, /"report" does not have the action "raed"; did you mean "read"\?/, ['policy', 'diff', old, broken]],
    [3, /broken\.yaml is not valid/, ['policy', 'diff', broken, old]],
    [2, /--format must be text, markdown, html, not "pdf"/, ['policy', 'matrix', old, '--format', 'pdf']],
    [2, /defines no environment "prdo"; did you mean "prod"\?/, ['policy', 'matrix', old, '--environment', 'prdo']],
    [2, /cannot be written: there is no such folder/, ['policy', 'matrix', old, '--out', join(folder, 'absent', 'x.md')]],
    [3, /broken\.yaml is not valid/, ['policy', 'matrix', broken]]
  ])
})

t.test('who gains and who loses', async t => {
  t.same(await run('policy', 'diff', old, old, '--fail-on-gain', 'production'), { code: 0, out: 'Nobody gains or loses anything.\n', err: '' })
  t.same(await run('policy', 'diff', old, wider), { code: 0, out: 'reader\n  + report:read (production)\n', err: '' })
  t.match(await run('policy', 'diff', old, wider, '--fail-on-gain', 'prod'), { code: 4, err: '1 gain in prod\n' })
  t.match(await run('policy', 'diff', old, wider, '--fail-on-gain', 'development'), { code: 0, err: '' })
  t.match(await run('policy', 'diff', old, narrower, '--fail-on-gain', 'prod'), { code: 0, out: 'reader\n  - report:read (development)\n\nwriter\n  - report:read (development, production)\n' })
  t.match(await run('policy', 'diff', old, other, '--fail-on-gain', 'prod'), { code: 4, out: '~ report:write (development, production): if resource.owner == principal.id -> if resource.owner != principal.id' })
  const { code, out } = await run('policy', 'diff', old, wider, '--fail-on-gain', 'prod', '--json')
  t.equal(code, 4)
  t.match(JSON.parse(out), { old, new: wider, gains: 1, changes: [{ subject: 'reader', permission: 'report:read', kind: 'gain', before: 'deny', after: 'allow', environments: ['production'] }] })
  t.match(await run('policy', 'diff', old, broken, '--json'), { code: 3, out: /"valid": false/ })
})

t.test('the matrix as text, Markdown, HTML and JSON', async t => {
  t.equal((await run('policy', 'matrix', old, '--environment', 'prod')).out, `report in production
              writer
report:read   yes
report:write  if
  report:write of writer: if resource.owner == principal.id

yes: allowed; if: under a condition; nothing: denied. Each role held alone.
`)
  const markdown = (await run('policy', 'matrix', old, '--format', 'markdown')).out
  t.match(markdown, /## development\n\n\| Permission \| reader \| writer \|\n\|---\|:-:\|:-:\|\n\| `report:read` \| yes \| yes \|/)
  t.match(markdown, /- report:write of writer: if `resource\.owner == principal\.id`/)
  const file = join(folder, 'matrix.html')
  t.same(await run('policy', 'matrix', old, '--format', 'html', '--out', file), { code: 0, out: '', err: '' })
  const html = readFileSync(file, 'utf8')
  t.match(html, '<th scope="row">report:write</th><td class="deny"></td><td class="if" title="if resource.owner == principal.id">if</td>')
  t.notMatch(html, /<script/)
  const hostile = write('hostile.yaml', OLD.replace('resource.owner == principal.id', "'resource.owner == \"<b>|\"'"))
  t.match((await run('policy', 'matrix', hostile, '--format', 'html')).out, 'if resource.owner == &quot;&lt;b&gt;|&quot;')
  t.match((await run('policy', 'matrix', hostile, '--format', 'markdown')).out, 'resource.owner == "<b>\\|"')
  t.match(JSON.parse((await run('policy', 'matrix', old, '--json')).out), { matrices: [{ environment: 'development', roles: ['reader', 'writer'] }, { environment: 'production' }] })
  t.match((await run('policy', 'matrix', write('empty.yaml', OLD.replace(/ {2}writer.*\n/, '').replace("{ allow: ['report:read'] }", '{}')))).out, 'report in development: nobody\n')
})

t.test('what is probably not meant is a warning, and with --strict a fault', async t => {
  const doubtful = write('doubtful.yaml', OLD.replace('writer: { inherits: [reader], allow: [', "writer: { inherits: [reader], allow: ['report:read', "))
  const { code, out, err } = await run('policy', 'check', doubtful)
  t.equal(code, 0)
  t.match(out, /is valid: .*; 1 warning\n$/)
  t.match(err, /doubtful\.yaml:5:\d+: warning: report:read is given by report:read of "reader" already \(redundant-grant\)\n$/)
  t.match(await run('policy', 'check', doubtful, '--strict'), { code: 3, err })
  const { findings, valid } = JSON.parse((await run('policy', 'check', doubtful, '--json')).out)
  t.match([valid, findings], [true, [{ rule: 'redundant-grant', line: 5, source: doubtful }]])
  t.match(await run('policy', 'check', fileURLToPath(new URL('../../../policies/rbac_policies.yaml', import.meta.url)), '--strict'), { code: 0, err: '' }, 'the shipped policy has none')
})
