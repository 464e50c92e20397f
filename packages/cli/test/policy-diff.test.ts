import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { runAsChild, type Answer } from './run.js'

const folder = mkdtempSync(join(tmpdir(), 'marty-diff-'))
t.teardown(() => { rmSync(folder, { recursive: true }) })

const policy = (roles: string, environments = '{ development: {}, production: { aliases: [prod] } }'): string => `version: 1
resources: { doc: { actions: [read, write, drop, list, sign], attributes: { size: number } } }
roles: ${roles}
environments: ${environments}
`
const if5 = (action: string): string => `{ permission: 'doc:${action}', when: 'resource.size < 5' }`
const if6 = (action: string): string => `{ permission: 'doc:${action}', when: 'resource.size < 6' }`
const files: Readonly<Record<string, string>> = {
  'old.yaml': policy(`{ reader: { allow: ['doc:read', ${if5('write')}, ${if5('list')}, ${if5('sign')}] }, gone: { allow: ['doc:read', ${if5('write')}] } }`),
  'new.yaml': policy(`{ reader: { allow: [${if5('read')}, ${if6('write')}, 'doc:drop', 'doc:list', ${if5('sign')}] }, fresh: { allow: [${if5('drop')}] } }`,
    "{ development: {}, production: { aliases: [prod], deny: [{ roles: [reader], permissions: ['doc:drop'] }] } }"),
  'less.yaml': policy("{ reader: { allow: ['doc:read'] } }"),
  'moved.yaml': policy("{ reader: { allow: ['doc:read'] } }", "{ development: { aliases: [prod] }, production: { deny: [{ roles: [reader], permissions: ['doc:read'] }] } }"),
  'back.yaml': policy("{ reader: { allow: ['doc:read'] } }", "{ development: {}, production: { aliases: [prod], deny: [{ roles: [reader], permissions: ['doc:read'] }] } }"),
  'many.yaml': policy(`{ ${Array.from({ length: 31 }, (_, index) => `role${index}: { allow: ['doc:read'] }`).join(', ')} }`),
  'broken.yaml': policy("{ reader: { allow: ['doc:raed'] } }")
}
for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)

const diff = async (...args: string[]): Promise<Answer> => await runAsChild(['policy', 'diff', ...args], { cwd: folder })

t.test('a wrong command line or a file that cannot be read ends with 2', async t => {
  const cases: ReadonlyArray<readonly [string[], RegExp]> = [
    [['old.yaml'], /policy diff needs NEW/],
    [['old.yaml', 'new.yaml', 'less.yaml'], /does not know what to do with "less\.yaml"/],
    [['old.yaml', 'absent.yaml'], /absent\.yaml cannot be read: there is no such file/],
    [['old.yaml', 'new.yaml', '--fail-on-gian', 'prod'], /did you mean "--fail-on-gain"\?/],
    [['old.yaml', 'new.yaml', '--fail-on-gain', 'prodution'], /neither policy defines an environment "prodution"; did you mean "production"\?/],
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
  t.match(await diff('old.yaml', 'new.yaml', '--fail-on-gain', 'prod'), { code: 4, err: '3 possible gains in prod\n' }, 'a change that may widen, one that does, and a new role')
  t.equal((await diff('new.yaml', 'new.yaml', '--fail-on-gain', 'prod')).code, 0)
  t.equal((await diff('back.yaml', 'less.yaml', '--fail-on-gain', 'development')).code, 0, 'a gain elsewhere')
  t.equal((await diff('back.yaml', 'less.yaml', '--fail-on-gain', 'development', '--fail-on-gain', 'production')).code, 4)
  t.equal((await diff('less.yaml', 'back.yaml', '--fail-on-gain', 'prod')).code, 0, 'a loss')
  const moved = await diff('back.yaml', 'moved.yaml', '--fail-on-gain', 'prod')
  t.equal(moved.code, 4, 'an alias that moved')
  t.equal(moved.out, 'reader\n  + doc:read (prod)\n')
})

t.test('who gains and loses what is told by role', async t => {
  t.match(await diff('old.yaml', 'old.yaml'), { code: 0, out: 'no difference\n', err: '' })
  const { code, out } = await diff('old.yaml', 'new.yaml')
  t.equal(code, 0)
  t.equal(out, `reader
  - doc:read if resource.size < 5, not always (development, production)
  ~ doc:write if resource.size < 5 -> if resource.size < 6 (development, production)
  + doc:drop (development)
  + doc:list always, not only if resource.size < 5 (development, production)

fresh
  + doc:drop if resource.size < 5 (development, production)

gone
  - doc:read (development, production)
  - doc:write if resource.size < 5 (development, production)
`)
  t.match(await diff('many.yaml', 'many.yaml'), { code: 0, err: /two roles were not compared/ })
})

t.test('as JSON', async t => {
  const { code, out } = await diff('back.yaml', 'less.yaml', '--fail-on-gain', 'prod', '--json')
  t.equal(code, 4)
  t.same(JSON.parse(out), {
    old: 'back.yaml',
    new: 'less.yaml',
    changes: [{ subject: 'reader', permission: 'doc:read', environments: ['production'], before: 'denied', after: 'allowed', kind: 'gain' }],
    pairs: true,
    gains: 1
  })
})
