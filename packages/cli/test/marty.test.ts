import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { run, runAsChild as child, type Answer } from './run.js'

const folder = mkdtempSync(join(tmpdir(), 'marty-cli-'))
t.teardown(() => {
  rmSync(folder, { recursive: true })
})

const policy = file(
  'policy.yaml',
  `version: 1
resources:
  report: { description: Reports, actions: [read, write] }
roles:
  reader: { description: Reads, allow: ['report:read'] }
  writer: { description: Writes, inherits: [reader], allow: ['report:write'] }
environments:
  development: { aliases: [dev] }
  production:
    deny:
      - { roles: [writer], permissions: ['report:write'], reason: nobody writes in production }
`
)
const broken = file(
  'broken.yaml',
  `version: 1
resources:
  report: { description: Reports, actions: [read] }
roles:
  reader: { description: Reads, allow: ['report:raed'] }
  writer: { description: Writes, inherits: [reeder], allow: ['report:read'] }
environments:
  development: {}
`
)
const tests = file(
  'tests.yaml',
  `version: 1
principals:
  reader: { roles: [reader] }
tests:
  - { name: readers read and do not write, principals: [reader], only: ['report:read'] }
`
)
const failing = file(
  'failing.yaml',
  `version: 1
principals:
  reader: { roles: [reader] }
tests:
  - { name: readers write, principals: [reader], environments: [dev], allow: ['report:write'] }
`
)

function file (name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

/** In the folder of the files. */
const runAsChild = async (...args: string[]): Promise<Answer> => await child(args, { cwd: folder })

t.test('a wrong command line says what is wrong and ends with 2', async t => {
  const latin1 = join(folder, 'latin1.yaml')
  writeFileSync(latin1, Buffer.from('# caf\u00E9\n', 'latin1'))
  const cases: ReadonlyArray<readonly [string[], RegExp]> = [
    [[], /^marty COMMAND/],
    [['polcy', 'check'], /no command "polcy check"; did you mean "marty policy check"\?/],
    [['policy', 'chekc', policy], /did you mean "marty policy check"\?/],
    [['policy'], /there are policy check, policy test, policy explain/],
    [['frobnicate'], /no command "frobnicate"; see marty --help/],
    [['policy', 'check'], /policy check needs FILE\nusage: marty policy check FILE/],
    [['policy', 'check', policy, 'more'], /what to do with "more"/],
    [['policy', 'check', policy, '--jsno'], /no option "--jsno"; did you mean "--json"\?/],
    [['policy', 'check', 'nowhere.yaml'], /nowhere.yaml cannot be read: there is no such file/],
    [['policy', 'check', latin1], /latin1\.yaml cannot be read: it is not UTF-8/],
    [['policy', 'check', folder], /it is a folder/],
    [['policy', 'explain', '--role', 'reader'], /needs --file, --permission, --environment/],
    [
      [
        'policy',
        'explain',
        '--file',
        policy,
        '--role',
        'raeder',
        '--permission',
        'report:read',
        '--environment',
        'dev'
      ],
      /no role "raeder"; did you mean "reader"\?/
    ],
    [
      [
        'policy',
        'explain',
        '--file',
        policy,
        '--role',
        'reader',
        '--permission',
        'report:raed',
        '--environment',
        'dev'
      ],
      /no permission "report:raed"; did you mean "report:read"\?/
    ],
    [
      [
        'policy',
        'explain',
        '--file',
        policy,
        '--role',
        'reader',
        '--permission',
        'report:read',
        '--environment',
        'prodution'
      ],
      /no environment "prodution"; did you mean "production"\?/
    ]
  ]
  for (const [args, message] of cases) {
    const { code, out, err } = await run(...args)
    t.equal(code, 2, args.join(' '))
    t.match(err, message)
    t.equal(out, '')
    t.notMatch(err, /\n {4}at /, 'no stack')
  }
  t.match(await runAsChild('policy', 'check', 'nowhere.yaml', '--json'), {
    code: 2,
    out: '',
    err: 'marty: nowhere.yaml cannot be read: there is no such file\n'
  })
})

t.test('help', async t => {
  for (const flag of ['--help', '-h']) {
    const { code, out } = await run('policy', flag)
    t.equal(code, 0)
    t.match(out, /^ {2}policy check .*\n {2}policy test .*\n/m)
    t.notMatch(out, /^ {2}limits/m)
  }
  t.match(await run('nothing', '--help'), { code: 2 })
  for (const args of [['--help'], ['-h'], ['help']]) {
    const { code, out } = await run(...args)
    t.equal(code, 0)
    t.match(out, /policy check .*\n.*policy test .*\n.*policy explain /)
    const names = [...out.matchAll(/^ {2}(\w+ [\w-]+) {2}/gm)].map(([, name]) => name!)
    t.equal(names.length, 21)
    for (const name of names) {
      const { code, out } = await run(...name.split(' '), '--help')
      t.equal(code, 0)
      t.match(out, new RegExp(`^\\S.*\n\nusage: marty ${name} .*\n\n[\\s\\S]*--json +\\S`))
    }
  }
  const { code, out } = await runAsChild('policy', 'explain', '--help')
  t.equal(code, 0)
  t.match(out, /usage: marty policy explain --file FILE[\s\S]*--permission {2}/)
})

t.test('policy check tells every mistake with its place and ends with 3', async t => {
  const { code, out, err } = await runAsChild('policy', 'check', 'broken.yaml')
  t.equal(code, 3)
  t.equal(out, '')
  t.match(err, /^broken\.yaml:5:\d+: .*action "raed"/m)
  t.match(err, /^broken\.yaml:6:\d+: .*reeder/m)
  t.match(err, /broken\.yaml is not valid: \d problems/)

  const json = await run('policy', 'check', broken, '--json')
  t.equal(json.code, 3)
  t.match(JSON.parse(json.out), {
    file: broken,
    valid: false,
    problems: [{ source: broken, line: 5, column: Number, message: String }]
  })
})

t.test('policy check of a valid policy', async t => {
  t.match(await run('policy', 'check', policy), {
    code: 0,
    out: /is valid: 2 roles, 2 permissions, \d+ rules, 2 environments\n$/,
    err: ''
  })
  t.match(JSON.parse((await run('policy', 'check', policy, '--json')).out), {
    valid: true,
    roles: ['reader', 'writer'],
    sha256: /^[0-9a-f]{64}$/
  })
})

t.test('policy test', async t => {
  t.match(await runAsChild('policy', 'test', policy, failing), {
    code: 4,
    out: '1 decision: 0 as expected, 1 not\n',
    err: /failing\.yaml:5:\d+: readers write: reader must be allowed report:write in dev/
  })
  t.match(JSON.parse((await run('policy', 'test', policy, failing, '--json')).out), {
    passed: 0,
    failed: 1,
    failures: [{ line: 5 }]
  })
  t.match(await run('policy', 'test', policy, broken), { code: 3, err: /broken\.yaml:/ }, 'a policy is no test file')
  t.match(await run('policy', 'test', broken, tests), { code: 3, err: /broken\.yaml is not valid/ })
  t.match(await run('policy', 'test', policy, tests), { code: 0, out: '4 decisions: 4 as expected, 0 not\n', err: '' })
})

t.test('policy test tells what it does not cover, and fails for it when asked to', async t => {
  t.match(await run('policy', 'test', policy, tests), { code: 0, out: /2 rules not covered, see --coverage\n$/ })
  t.match(await run('policy', 'test', policy, tests, '--coverage'), {
    code: 4,
    out: /2 rules not covered\n$/,
    err: /policy\.yaml:6:\d+: this rule applies in no test/
  })
  t.match(JSON.parse((await run('policy', 'test', policy, tests, '--json')).out), {
    uncovered: [{ line: 6 }, { line: 11 }]
  })
})

t.test('policy explain shows what conditions saw', async t => {
  const conditional = file(
    'conditional.yaml',
    `version: 1
resources:
  report: { actions: [read], attributes: { owner: text } }
roles:
  reader: { allow: [{ permission: 'report:read', when: resource.owner == principal.id or time in "Mon 08:00-09:00 UTC" }] }
environments: { development: {} }
`
  )
  const ask = async (attributes: string): ReturnType<typeof run> =>
    await run(
      'policy',
      'explain',
      '--file',
      conditional,
      '--role',
      'reader',
      '--permission',
      'report:read',
      '--environment',
      'development',
      '--attributes',
      attributes
    )
  t.match(await ask('{"principal":{"id":"ada"},"resource":{"owner":"ada"}}'), {
    code: 0,
    out: /^allowed: .*\n {2}.*conditional\.yaml:5:\d+\n {2}if .*: true \(resource\.owner is "ada", principal\.id is "ada", time is \d+\)\n$/
  })
  t.match(await ask('{"principal":{"id":"ada"},"time":"2025-01-07T08:00Z"}'), {
    code: 0,
    out: /^denied: .*\nnot deciding: reader allow report:read\n.*\n.*: unknown \(resource\.owner is missing/
  })
  t.match(await ask('{"time":"2025-01-06T08:59:59Z"}'), { code: 0, out: /^allowed/ })
  t.match(await ask('[oops'), { code: 2, err: /--attributes must be a JSON object/ })
  t.match(await ask('null'), { code: 2, err: /--attributes must be a JSON object/ })
})

t.test('policy explain names the rule that decides', async t => {
  const ask = async (environment: string, ...more: string[]): ReturnType<typeof run> =>
    await run(
      'policy',
      'explain',
      '--file',
      policy,
      '--role',
      'writer',
      '--permission',
      'report:write',
      '--environment',
      environment,
      ...more
    )
  t.match(await ask('dev'), { code: 0, out: /^allowed: writer is allowed report:write\n {2}.*policy\.yaml:6:\d+\n$/ })
  t.match(await ask('production'), {
    code: 0,
    out: /^denied: .*nobody writes in production\n {2}.*policy\.yaml:11:\d+\nnot deciding: writer allow report:write\n {2}.*policy\.yaml:6:\d+\n$/
  })
  t.match(JSON.parse((await ask('dev', '--role', 'reader', '--json')).out), {
    allowed: true,
    environment: 'development',
    roles: ['writer', 'reader'],
    rule: { role: 'writer' }
  })
})

t.test('the README shows every command, with options that there are', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const names = [...(await run('--help')).out.matchAll(/^ {2}([\w-]+(?: [\w-]+)?) {2}/gm)].map(([, name]) => name!)
  const shown = [...readme.matchAll(/^marty (.*)$/gm)].map(([, line = '']) => ({
    name: names.find(name => `${line} `.startsWith(`${name} `)) ?? `no command: ${line}`,
    options: line.match(/--[\w-]+/g) ?? []
  }))
  for (const { name, options } of shown) {
    const { out } = await run(...name.split(' '), '--help')
    for (const option of options) t.match(out, new RegExp(`^ {2}${option} `, 'm'), `${name} ${option}`)
  }
  t.same([...new Set(shown.map(({ name }) => name))].toSorted(), names.toSorted())
})
