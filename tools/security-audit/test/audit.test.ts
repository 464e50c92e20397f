import { readFileSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t from 'tap'
import { audit, AuditError } from '@marty/security-audit'
import { folderOf, pem, random32, runCommand } from './planted.js'

const evaluate = 'ev' + 'al'
const ignore = 'marty-security-audit-' + 'ignore'
const root = resolve(import.meta.dirname, '../../..')

t.test('a folder that cannot be audited is refused, and is not clean', async t => {
  t.throws(() => audit('/nowhere/at/all'), {
    name: 'AuditError',
    code: 'MARTY_AUDITOR_FOLDER_UNREADABLE',
    message: /there is no folder/
  })
  t.throws(() => audit(import.meta.filename), { code: 'MARTY_AUDITOR_FOLDER_UNREADABLE', message: /is not a folder/ })
  t.throws(() => audit(folderOf(t, {})), { code: 'MARTY_AUDITOR_NOTHING_TO_AUDIT', message: /git tracks no file/ })
  t.throws(() => audit(folderOf(t, { 'node_modules/a.js': '1' }, { git: false })), {
    code: 'MARTY_AUDITOR_NOTHING_TO_AUDIT'
  })
  t.ok(new AuditError('MARTY_AUDITOR_NOTHING_TO_AUDIT', 'x') instanceof Error)
})

t.test('only what git tracks is read', async t => {
  const folder = folderOf(t, { 'tracked.js': `${evaluate}(a)` })
  writeFileSync(join(folder, 'untracked.js'), `${evaluate}(a)`)
  t.strictSame(
    audit(folder).findings.map(({ file }) => file),
    ['tracked.js']
  )
})

t.test('outside git everything but node_modules and dist is read, and what needs git is not run', async t => {
  const folder = folderOf(
    t,
    {
      '.env': 'A=1',
      'a.js': `${evaluate}(a)`,
      'node_modules/b.js': `${evaluate}(a)`,
      'deep/dist/c.js': `${evaluate}(a)`
    },
    { git: false }
  )
  const { findings, notRun } = audit(folder)
  t.strictSame(
    findings.map(({ file }) => file),
    ['a.js']
  )
  t.match(notRun, [{ rule: 'env-file', reason: /not a git repository/ }])
  t.match((await runCommand(folder)).out, /^not run {3}env-file: .*not a git repository$/m)
})

t.test('files that are not read are named', async t => {
  const folder = folderOf(t, {
    'image.bin': Buffer.concat([Buffer.from([0, 1, 2]), Buffer.from(pem('', random32.repeat(3)))]),
    'huge.js': `${evaluate}(a)\n${' '.repeat(1024 * 1024)}`,
    'gone.js': 'gone',
    'fine.js': 'fine'
  })
  unlinkSync(join(folder, 'gone.js'))
  unlinkSync(join(folder, 'fine.js'))
  symlinkSync('/etc/passwd', join(folder, 'fine.js'))
  const { files, findings, skipped } = audit(folder)
  t.equal(files, 0)
  t.strictSame(findings, [])
  t.strictSame(skipped, [
    { file: 'fine.js', reason: 'symbolic link' },
    { file: 'gone.js', reason: 'not in the working tree' },
    { file: 'huge.js', reason: 'larger than 1 MiB' },
    { file: 'image.bin', reason: 'binary' }
  ])
  const { out } = await runCommand(folder)
  t.match(out, /^skipped {3}larger than 1 MiB: huge\.js$/m)
  t.match(out, /^skipped {3}binary: image\.bin$/m)
})

t.test('a comment with a reason sets a finding aside', async t => {
  const cases: ReadonlyArray<readonly [string, string]> = [
    ['a.js', `${evaluate}(a) // ${ignore} eval -- the text is ours`],
    ['a.js', `// ${ignore} eval -- the text is ours\n${evaluate}(a)`],
    ['a.js', `/* ${ignore} eval -- the text is ours */ ${evaluate}(a)`]
  ]
  for (const [file, text] of cases) {
    const { findings, suppressed } = audit(folderOf(t, { [file]: text }))
    t.strictSame(findings, [], text)
    t.match(suppressed, [{ rule: 'eval', file, reason: 'the text is ours' }])
  }
  t.match(audit(folderOf(t, { '.env': `# ${ignore} env-file -- holds no secret\nA=1\n` })), {
    findings: [],
    suppressed: [{ rule: 'env-file' }]
  })
})

t.test('a suppression without a reason, of another rule, too far away or in a string has no effect', async t => {
  const rulesOf = (text: string): string[] =>
    audit(folderOf(t, { 'a.js': text }))
      .findings.map(({ rule }) => rule)
      .sort()
  t.strictSame(rulesOf(`${evaluate}(a) // ${ignore} eval`), ['eval', 'ignore-comment'])
  t.strictSame(rulesOf(`${evaluate}(a) // ${ignore} eval --  `), ['eval', 'ignore-comment'])
  t.strictSame(rulesOf(`${evaluate}(a) // ${ignore} -- because`), ['eval', 'ignore-comment'])
  t.strictSame(rulesOf(`${evaluate}(a) // ${ignore} evla -- because`), ['eval', 'ignore-comment'])
  t.strictSame(rulesOf(`${evaluate}(a) // ${ignore} private-key -- because`), ['eval'])
  t.strictSame(rulesOf(`// ${ignore} eval -- because\n\n${evaluate}(a)`), ['eval'])
  t.strictSame(rulesOf(`${evaluate}(a, '// ${ignore} eval -- because')`), ['eval'])
  t.strictSame(rulesOf(`// ${ignore} ignore-comment -- because\n// ${ignore} eval`), [
    'ignore-comment',
    'ignore-comment'
  ])
  t.match(audit(folderOf(t, { 'a.js': `// ${ignore} evla -- because` })).findings, [
    { advice: 'Did you mean "eval"?', line: 1, column: 4 }
  ])
})

t.test('a secret that was found is nowhere in the output', async t => {
  const token = `${'gh' + 'p_'}${random32}q7Zt`
  const body = random32.split('').reverse().join('')
  const folder = folderOf(t, {
    'a.ts': `const apiKey = '${random32}'\nconst other = '${token}'\n`,
    'key.pem': pem('', body.repeat(2)),
    'package.json': JSON.stringify({ dependencies: { a: `git+https://user:${random32}@a.example/a.git` } }),
    'deep/package.json': `{ "password": "${random32}" broken`
  })
  for (const args of [[folder], [folder, '--json']]) {
    const { code, out, err } = await runCommand(...args)
    t.equal(code, 1)
    for (const rule of ['private-key', 'known-token', 'literal-secret', 'dependency-source']) t.match(out, rule)
    for (let at = 0; at + 8 <= random32.length; at++) {
      t.notOk(
        `${out}${err}`.includes(random32.slice(at, at + 8)) || `${out}${err}`.includes(body.slice(at, at + 8)),
        `nothing of it from ${at}`
      )
    }
  }
})

t.test('exit codes and the command line', async t => {
  const high = folderOf(t, { 'a.js': `${evaluate}(a)` })
  const medium = folderOf(t, { Dockerfile: 'FROM a:1\n' })
  const clean = folderOf(t, { 'a.js': 'a' })
  for (const [code, ...args] of [
    [0, clean],
    [0, clean, '--fail-on', 'low'],
    [1, high],
    [0, high, '--fail-on', 'critical'],
    [1, high, '--fail-on=high'],
    [0, medium],
    [1, medium, '--fail-on', 'medium'],
    [1, medium, '--fail-on', 'low', '--json']
  ] as ReadonlyArray<[number, ...string[]]>) {
    t.match(await runCommand(...args), { code, err: '' }, args.slice(1).join(' '))
  }

  for (const [args, message] of [
    [['--jsno'], /no option "--jsno"; did you mean "--json"\?\nusage: /],
    [['--frobnicate'], /no option "--frobnicate"\nusage: /],
    [['--fail-on', 'hihg'], /--fail-on must be one of critical, high, medium, low, not "hihg"; did you mean "high"\?/],
    [['--fail-on'], /--fail-on/],
    [[clean, high], /only one folder can be audited/],
    [['/nowhere/at/all'], /there is no folder \/nowhere\/at\/all\n$/]
  ] as ReadonlyArray<[string[], RegExp]>) {
    const { code, out, err } = await runCommand(...args)
    t.equal(code, 2, args.join(' '))
    t.equal(out, '')
    t.match(err, message)
    t.notMatch(err, /\n {4}at /, 'no stack')
  }
  for (const word of ['--help', '-h']) {
    t.match(await runCommand(word), {
      code: 0,
      out: /usage: marty-security-audit[\s\S]*private-key {2,}critical[\s\S]*Exit codes/,
      err: ''
    })
  }
})

t.test('the report for people has places and no colours off a terminal', async t => {
  const { out } = await runCommand(folderOf(t, { 'a\u001b[31m.js': `\n  ${evaluate}(a)` }))
  t.match(out, /^high {6}eval {2}a\\u\{1b\}\[31m\.js:2:3 {2}eval runs a string as code\n {16}Parse /)
  t.notMatch(out, '\u001b')
  t.match(out, /\n1 finding in 1 file; 0 suppressed, 0 skipped, 0 checks not run\n$/)
})

t.test('the report as JSON', async t => {
  const folder = folderOf(t, { 'a.js': `\n  ${evaluate}(a)`, Dockerfile: 'FROM a:1\n' })
  const report = JSON.parse((await runCommand(folder, '--json')).out)
  t.strictSame(Object.keys(report), ['version', 'directory', 'files', 'findings', 'suppressed', 'skipped', 'notRun'])
  t.strictSame(
    report.findings.map(({ severity }: { severity: string }) => severity),
    ['high', 'medium'],
    'worst first'
  )
  t.strictSame(Object.keys(report.findings[0]), ['rule', 'severity', 'file', 'line', 'column', 'message', 'advice'])
  t.match(report, {
    version: 1,
    files: 2,
    findings: [{ rule: 'eval', file: 'a.js', line: 2, column: 3 }, { rule: 'docker-root' }],
    suppressed: [],
    skipped: [],
    notRun: []
  })
  t.strictSame(report, audit(folder), 'the function tells the same')
})

t.test('this repository is clean', async t => {
  const { files, findings, notRun } = audit(root)
  t.ok(files > 100)
  t.strictSame(findings, [])
  t.strictSame(notRun, [])
})

t.test('the README lists the rules as --help does', async t => {
  const readme = readFileSync(join(root, 'tools/security-audit/README.md'), 'utf8')
  const rules = [...(await runCommand('--help')).out.matchAll(/^ {2}([a-z-]+) {2,}(critical|high|medium|low) /gm)].map(
    ([, name, severity]) => [name, severity]
  )
  t.ok(rules.length > 10)
  t.strictSame(
    [...readme.matchAll(/^\| `([a-z-]+)` \| (\w+)/gm)].map(([, name, severity]) => [name, severity]),
    rules
  )
})
