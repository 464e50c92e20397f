import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { runAsChild, type Answer } from './run.js'

const folder = mkdtempSync(join(tmpdir(), 'marty-matrix-'))
t.teardown(() => {
  rmSync(folder, { recursive: true })
})

writeFileSync(
  join(folder, 'a<b>.yaml'),
  `version: 1
resources: { doc: { actions: [read, write], attributes: { owner: text } } }
roles:
  reader: { allow: ['doc:read', { permission: 'doc:write', when: 'resource.owner == "<script>|"' }] }
  writer: { inherits: [reader], deny: ['doc:read'] }
  other: {}
environments: { development: {}, production: { aliases: [prod] } }
`
)
writeFileSync(
  join(folder, 'wide.yaml'),
  `version: 1
resources: { doc: { actions: [read] } }
roles: { ${Array.from({ length: 12 }, (_, index) => `a-role-of-long-name-${index}: { allow: ['doc:read'] }`).join(', ')} }
environments: { production: {} }
`
)
writeFileSync(
  join(folder, 'broken.yaml'),
  'version: 1\nresources: { doc: { actions: [read] } }\nroles: { reader: { allow: [doc:raed] } }\nenvironments: { production: {} }\n'
)

const matrix = async (...args: string[]): Promise<Answer> =>
  await runAsChild(['policy', 'matrix', ...args], { cwd: folder })

t.test('a wrong command line or a file that cannot be read or written ends with 2', async t => {
  const cases: ReadonlyArray<readonly [string[], RegExp]> = [
    [[], /policy matrix needs FILE/],
    [['absent.yaml'], /absent\.yaml cannot be read/],
    [['wide.yaml', '--format', 'pdf'], /--format is "pdf"; it is one of text, markdown, html/],
    [['wide.yaml', '--format', 'html', '--json'], /cannot be given together/],
    [['wide.yaml', '--environment', 'prodution'], /did you mean "production"\?/],
    [['wide.yaml', '--environment', 'x'.repeat(20)], /it defines production/],
    [['wide.yaml', '--out', 'absent/matrix.txt'], /cannot be written: there is no such folder/]
  ]
  for (const [args, message] of cases) {
    const { code, out, err } = await matrix(...args)
    t.equal(code, 2, args.join(' '))
    t.match(err, message)
    t.equal(out, '')
  }
})

t.test('an invalid policy ends with 3', async t => {
  t.match(await matrix('broken.yaml', '--out', 'matrix.txt'), { code: 3, out: '', err: /broken\.yaml:3:\d+/ })
  t.throws(() => readFileSync(join(folder, 'matrix.txt')), { code: 'ENOENT' })
})

t.test('as text, which fits', async t => {
  const { code, out } = await matrix('a<b>.yaml', '--environment', 'prod')
  t.equal(code, 0)
  t.equal(
    out,
    `Who may do what: a<b>.yaml
yes: allowed; (...): inherited; if N: on condition N; no: a rule denies it; -: nothing allows it

doc in production
           reader  writer  other
doc:read   yes     no      -
doc:write  if 1    (if 1)  -

1: resource.owner == "<script>|"
`
  )
  t.match((await matrix('a<b>.yaml')).out, /doc in development\n[\s\S]*doc in production\n/)
  const wide = (await matrix('wide.yaml')).out
  t.ok(wide.split('\n').every(line => line.length <= 100))
  t.equal(wide.match(/a-role-of-long-name-\d+/g)!.length, 12)
})

t.test('as Markdown', async t => {
  const { out } = await matrix('a<b>.yaml', '--environment', 'production', '--format', 'markdown')
  t.match(out, '# Who may do what: a\\<b\\>.yaml\n')
  t.match(
    out,
    '| permission | reader | writer | other |\n| --- | --- | --- | --- |\n' +
      '| `doc:read` | yes | no | - |\n| `doc:write` | if 1 | (if 1) | - |\n'
  )
  t.match(out, '\n    1: resource.owner == "<script>|"\n')
  t.notMatch((await matrix('wide.yaml', '--format', 'markdown')).out, 'Conditions')
})

t.test('as a page of its own, without scripts', async t => {
  const { code, out, err } = await matrix('a<b>.yaml', '--format', 'html', '--out', 'matrix.html')
  t.match({ code, out, err }, { code: 0, out: 'matrix.html is written from a<b>.yaml\n', err: '' })
  const page = readFileSync(join(folder, 'matrix.html'), 'utf8')
  t.match(page, '<caption>doc in production</caption>')
  t.match(page, '<th scope="col">reader</th>')
  t.match(page, '<tr><th scope="row">doc:read</th><td class="yes">yes</td><td class="no">no</td><td>-</td></tr>')
  t.match(page, '<h1>Who may do what: a&#60;b&#62;.yaml</h1>')
  t.match(page, '&#60;script&#62;')
  t.match(page, 'prefers-color-scheme: dark')
  t.notMatch(page, /<script|https?:|src=/)
  t.notMatch((await matrix('wide.yaml', '--format', 'html')).out, 'Conditions')
})

t.test('as JSON', async t => {
  const { out } = await matrix('a<b>.yaml', '--environment', 'prod', '--json')
  t.match(JSON.parse(out), {
    file: 'a<b>.yaml',
    roles: ['reader', 'writer', 'other'],
    environments: [
      {
        environment: 'production',
        resources: [
          {
            resource: 'doc',
            rows: [
              {
                permission: 'doc:read',
                cells: [{ state: 'allow', inherited: false }, { state: 'deny' }, { state: 'none' }]
              }
            ]
          }
        ]
      }
    ]
  })
})
