import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { fileURLToPath } from 'node:url'
import { refuses, run, type Answer } from './run.js'

const folder = mkdtempSync(join(tmpdir(), 'marty-diff-'))
t.teardown(() => {
  rmSync(folder, { recursive: true })
})

const policy = (
  roles: string,
  environments = '{ development: {}, production: { aliases: [prod] } }'
): string => `version: 1
resources: { doc: { actions: [read, write, drop, list, sign], attributes: { size: number } } }
roles: ${roles}
environments: ${environments}
`
const if5 = (action: string): string => `{ permission: 'doc:${action}', when: 'resource.size < 5' }`
const if6 = (action: string): string => `{ permission: 'doc:${action}', when: 'resource.size < 6' }`
const files: Readonly<Record<string, string>> = {
  'old.yaml': policy(
    `{ reader: { allow: ['doc:read', ${if5('write')}, ${if5('list')}, ${if5('sign')}] }, gone: { allow: ['doc:read', ${if5('write')}] } }`
  ),
  'new.yaml': policy(
    `{ reader: { allow: [${if5('read')}, ${if6('write')}, 'doc:drop', 'doc:list', ${if5('sign')}] }, fresh: { allow: [${if5('drop')}] } }`,
    "{ development: {}, production: { aliases: [prod], deny: [{ roles: [reader], permissions: ['doc:drop'] }] } }"
  ),
  'less.yaml': policy("{ reader: { allow: ['doc:read'] } }"),
  'moved.yaml': policy(
    "{ reader: { allow: ['doc:read'] } }",
    "{ development: { aliases: [prod] }, production: { deny: [{ roles: [reader], permissions: ['doc:read'] }] } }"
  ),
  'back.yaml': policy(
    "{ reader: { allow: ['doc:read'] } }",
    "{ development: {}, production: { aliases: [prod], deny: [{ roles: [reader], permissions: ['doc:read'] }] } }"
  ),
  'other.yaml': policy(
    `{ reader: { allow: ['doc:read', ${if5('write')}, ${if5('list')}, { permission: 'doc:sign', when: 'resource.size > 9' }] }, ` +
      `gone: { allow: ['doc:read', ${if5('write')}] } }`
  ),
  'turned.yaml': policy(
    `{ reader: { allow: ['doc:read', ${if5('write')}, ${if5('list')}, ` +
      `{ permission: 'doc:sign', when: 'not (5 <= resource.size)' }] }, gone: { allow: [${if5('write')}, 'doc:read'] } }`
  ),
  'banned.yaml': policy(
    `{ banned: { deny: ['doc:*'] }, ${Array.from({ length: 120 }, (_, index) => `role${index}: { allow: ['doc:read'] }`).join(', ')} }`
  ),
  'freed.yaml': policy(
    `{ banned: {}, ${Array.from({ length: 120 }, (_, index) => `role${index}: { allow: ['doc:read'] }`).join(', ')} }`
  ),
  'broken.yaml': policy("{ reader: { allow: ['doc:raed'] } }")
}
for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)

process.chdir(folder)
const diff = async (...args: string[]): Promise<Answer> => await run('policy', 'diff', ...args)

t.test('a wrong command line or a file that cannot be read ends with 2', async t => {
  const cases: ReadonlyArray<readonly [string[], RegExp]> = [
    [['old.yaml'], /policy diff needs NEW/],
    [['old.yaml', 'new.yaml', 'less.yaml'], /does not know what to do with "less\.yaml"/],
    [['old.yaml', 'absent.yaml'], /absent\.yaml cannot be read: there is no such file/],
    [['old.yaml', 'new.yaml', '--fail-on-gian', 'prod'], /did you mean "--fail-on-gain"\?/],
    [
      ['old.yaml', 'new.yaml', '--fail-on-gain', 'prodution'],
      /neither policy defines an environment "prodution"; did you mean "production"\?/
    ],
    [['old.yaml', 'new.yaml', '--fail-on-gain', 'x'.repeat(20)], /they define development, production, prod/]
  ]
  for (const [args, message] of cases) {
    const { code, out, err } = await diff(...args)
    t.equal(code, 2, args.join(' '))
    t.match(err, message)
    t.equal(out, '')
  }
})

t.test('an invalid policy, the old or the new one, ends with 3', async t => {
  t.match(await diff('broken.yaml', 'new.yaml'), { code: 3, out: '', err: /broken\.yaml:3:\d+: .*raed/ })
  const { code, out } = await diff('old.yaml', 'broken.yaml', '--json')
  t.equal(code, 3)
  t.match(JSON.parse(out), { file: 'broken.yaml', valid: false })
})

t.test('a gain where none may be ends with 4', async t => {
  t.match(
    await diff('old.yaml', 'new.yaml', '--fail-on-gain', 'prod'),
    { code: 4, err: '3 gains in prod\n' },
    'a wider condition, one that is gone, and a new role'
  )
  t.equal((await diff('new.yaml', 'new.yaml', '--fail-on-gain', 'prod')).code, 0)
  t.equal((await diff('back.yaml', 'less.yaml', '--fail-on-gain', 'development')).code, 0, 'a gain elsewhere')
  t.equal(
    (await diff('back.yaml', 'less.yaml', '--fail-on-gain', 'development', '--fail-on-gain', 'production')).code,
    4
  )
  t.equal((await diff('less.yaml', 'back.yaml', '--fail-on-gain', 'prod')).code, 0, 'a loss')
  const moved = await diff('back.yaml', 'moved.yaml', '--fail-on-gain', 'prod')
  t.equal(moved.code, 4, 'an alias that moved')
  t.equal(moved.out, 'reader\n  + doc:read (prod)\n')
})

t.test('what only may be a gain counts as one', async t => {
  t.match(await diff('old.yaml', 'other.yaml', '--fail-on-gain', 'prod'), {
    code: 4,
    err: '1 possible gain in prod\n',
    out: '~ doc:sign (development, production): if resource.size < 5 -> if resource.size > 9\n'
  })
  t.match(
    await diff('old.yaml', 'turned.yaml', '--fail-on-gain', 'prod'),
    { code: 0, out: 'Nobody gains or loses anything.\n', err: '' },
    'the same in other words'
  )
  const many = await diff('banned.yaml', 'freed.yaml', '--fail-on-gain', 'prod')
  t.match(many, { code: 4, err: '100 gains and 1 possible gain in prod\n' })
  t.ok(
    many.out.endsWith(
      '\nbanned + role99\n  + doc:read (development, production)\n\n' +
        'too many combinations of roles to compare or to list all of them\n' +
        '  ? doc:read (development, production): complete for callers with up to 1 role\n'
    )
  )
})

t.test('who gains and loses what is told by role', async t => {
  t.same(await diff('old.yaml', 'old.yaml', '--fail-on-gain', 'production'), {
    code: 0,
    out: 'Nobody gains or loses anything.\n',
    err: ''
  })
  const { code, out } = await diff('old.yaml', 'new.yaml')
  t.equal(code, 0)
  t.equal(
    out,
    `reader
  - doc:read (development, production): allowed -> if resource.size < 5
  + doc:write (development, production): if resource.size < 5 -> if resource.size < 6
  + doc:drop (development)
  + doc:list (development, production): if resource.size < 5 -> allowed

fresh
  + doc:drop (development, production): denied -> if resource.size < 5

gone
  - doc:read (development, production)
  - doc:write (development, production): if resource.size < 5 -> denied
`
  )
})

t.test('as JSON', async t => {
  const { code, out } = await diff('back.yaml', 'less.yaml', '--fail-on-gain', 'prod', '--json')
  t.equal(code, 4)
  t.same(JSON.parse(out), {
    old: 'back.yaml',
    new: 'less.yaml',
    changes: [
      {
        subject: 'reader',
        permission: 'doc:read',
        environments: ['production'],
        before: 'denied',
        after: 'allowed',
        kind: 'gain'
      }
    ],
    incomplete: [],
    gains: 1,
    possibleGains: 0
  })
})

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
const old = write('reports-old.yaml', OLD)
const wider = write(
  'reports-wider.yaml',
  OLD.replace(", deny: [{ roles: [reader], permissions: ['report:read'] }]", '')
)
const narrower = write('reports-narrower.yaml', OLD.replace("reader: { allow: ['report:read'] }", 'reader: {}'))
const other = write('reports-other.yaml', OLD.replace('resource.owner ==', 'resource.owner !='))
const broken = write('reports-broken.yaml', OLD.replace('report:read', 'report:raed'))

t.test('wrong files', async t => {
  await refuses(t, [
    [2, /policy diff needs NEW/, ['policy', 'diff', old]],
    [2, /absent\.yaml cannot be read: there is no such file/, ['policy', 'diff', old, join(folder, 'absent.yaml')]],
    [
      2,
      /neither policy defines an environment "prdo"; did you mean "prod"\?/,
      ['policy', 'diff', old, wider, '--fail-on-gain', 'prdo']
    ],
    [3, /"report" does not have the action "raed"; did you mean "read"\?/, ['policy', 'diff', old, broken]],
    [3, /broken\.yaml is not valid/, ['policy', 'diff', broken, old]],
    [2, /--format is "pdf"; it is one of text, markdown, html/, ['policy', 'matrix', old, '--format', 'pdf']],
    [2, /defines no environment "prdo"; did you mean "prod"\?/, ['policy', 'matrix', old, '--environment', 'prdo']],
    [
      2,
      /cannot be written: there is no such folder/,
      ['policy', 'matrix', old, '--out', join(folder, 'absent', 'x.md')]
    ],
    [3, /broken\.yaml is not valid/, ['policy', 'matrix', broken]]
  ])
})

t.test('a deny that goes, a role that goes, another condition', async t => {
  t.same(await run('policy', 'diff', old, old, '--fail-on-gain', 'production'), {
    code: 0,
    out: 'Nobody gains or loses anything.\n',
    err: ''
  })
  t.same(await run('policy', 'diff', old, wider), { code: 0, out: 'reader\n  + report:read (production)\n', err: '' })
  t.match(await run('policy', 'diff', old, wider, '--fail-on-gain', 'prod'), { code: 4, err: '1 gain in prod\n' })
  t.match(await run('policy', 'diff', old, wider, '--fail-on-gain', 'development'), { code: 0, err: '' })
  t.match(await run('policy', 'diff', old, narrower, '--fail-on-gain', 'prod'), {
    code: 0,
    out: 'reader\n  - report:read (development)\n\nwriter\n  - report:read (development, production)\n'
  })
  t.match(await run('policy', 'diff', old, other, '--fail-on-gain', 'prod'), {
    code: 4,
    out: '~ report:write (development, production): if resource.owner == principal.id -> if resource.owner != principal.id'
  })
  const feigned = write(
    'reports-feigned.yaml',
    OLD.replace('resource.owner == principal.id', '"resource.owner == \'a\\n  - report:read (production)\'"')
  )
  t.match(
    (await run('policy', 'diff', old, feigned)).out,
    'if resource.owner == "a   - report:read (production)"\n',
    'a condition stays on its line'
  )
  const { code, out } = await run('policy', 'diff', old, wider, '--fail-on-gain', 'prod', '--json')
  t.equal(code, 4)
  t.match(JSON.parse(out), {
    old,
    new: wider,
    gains: 1,
    changes: [
      {
        subject: 'reader',
        permission: 'report:read',
        kind: 'gain',
        before: 'denied',
        after: 'allowed',
        environments: ['production']
      }
    ]
  })
  t.match(await run('policy', 'diff', old, broken, '--json'), { code: 3, out: /"valid": false/ })
})

t.test('what is probably not meant is a warning, and with --strict a fault', async t => {
  const doubtful = write(
    'reports-doubtful.yaml',
    OLD.replace('writer: { inherits: [reader], allow: [', "writer: { inherits: [reader], allow: ['report:read', ")
  )
  const { code, out, err } = await run('policy', 'check', doubtful)
  t.equal(code, 0)
  t.match(out, /is valid: .*; 1 warning\n$/)
  t.match(
    err,
    /reports-doubtful\.yaml:5:\d+: warning: report:read is given by report:read of "reader" already \(redundant-grant\)\n$/
  )
  t.match(await run('policy', 'check', doubtful, '--strict'), { code: 3, err })
  const { findings, valid } = JSON.parse((await run('policy', 'check', doubtful, '--json')).out)
  t.match([valid, findings], [true, [{ rule: 'redundant-grant', line: 5, source: doubtful }]])
  t.match(
    await run(
      'policy',
      'check',
      fileURLToPath(new URL('../../../policies/rbac_policies.yaml', import.meta.url)),
      '--strict'
    ),
    { code: 0, err: '' },
    'the shipped policy has none'
  )
})
