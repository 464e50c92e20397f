import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { runAsChild, type Answer } from './run.js'

const folder = mkdtempSync(join(tmpdir(), 'marty-types-'))
t.teardown(() => {
  rmSync(folder, { recursive: true })
})
const shipped = fileURLToPath(new URL('../../../policies/', import.meta.url))

writeFileSync(
  join(folder, 'policy.yaml'),
  `version: 1
resources: { report: { actions: [read] } }
roles: { reader: { allow: ['report:read'] } }
environments: { production: {} }
`
)
writeFileSync(
  join(folder, 'broken.yaml'),
  `version: 1
resources: { report: { actions: [read] } }
roles: { reader: { allow: ['report:raed'] } }
environments: { production: {} }
`
)

const types = async (...args: string[]): Promise<Answer> =>
  await runAsChild(['policy', 'types', ...args], { cwd: folder })

t.test('a wrong command line or a file that cannot be read or written ends with 2', async t => {
  const cases: ReadonlyArray<readonly [string[], RegExp]> = [
    [[], /policy types needs FILE/],
    [['policy.yaml', '--chek'], /did you mean "--check"\?/],
    [['policy.yaml', '--check'], /--check needs --out/],
    [['absent.yaml'], /absent\.yaml cannot be read: there is no such file/],
    [['policy.yaml', '--out', 'absent.d.ts', '--check'], /absent\.d\.ts cannot be read: there is no such file/],
    [['policy.yaml', '--out', 'absent/types.d.ts'], /absent\/types\.d\.ts cannot be written: there is no such folder/],
    [['policy.yaml', '--out', '.'], /\. cannot be written: it is a folder/]
  ]
  for (const [args, message] of cases) {
    const { code, out, err } = await types(...args)
    t.equal(code, 2, args.join(' '))
    t.match(err, message)
    t.equal(out, '')
  }
})

t.test('an invalid policy ends with 3 and leaves the declaration file alone', async t => {
  writeFileSync(join(folder, 'kept.d.ts'), 'as it was')
  const told = await types('broken.yaml', '--out', 'kept.d.ts')
  t.equal(told.code, 3)
  t.match(told.err, /broken\.yaml:3:\d+: .*raed/)
  t.equal(readFileSync(join(folder, 'kept.d.ts'), 'utf8'), 'as it was')
  const { code, out } = await types('broken.yaml', '--json')
  t.equal(code, 3)
  t.match(JSON.parse(out), { file: 'broken.yaml', valid: false, problems: [{ line: 3 }] })
})

t.test('types are written, checked, and told when they drift', async t => {
  const printed = await types('policy.yaml')
  t.equal(printed.code, 0)
  t.match(
    printed.out,
    /^\/\/ Generated from policy\.yaml\. Change that file, then run: marty policy types policy\.yaml --out FILE\n/
  )
  t.match(printed.out, /permission:\n {6}\| 'report:read'/)
  t.match(JSON.parse((await types('policy.yaml', '--json')).out), { out: null, current: true, types: printed.out })

  t.match(await types('policy.yaml', '--out', 'types.d.ts'), {
    code: 0,
    out: 'types.d.ts is written from policy.yaml\n'
  })
  t.equal(readFileSync(join(folder, 'types.d.ts'), 'utf8'), printed.out)
  t.match(await types('policy.yaml', '--out', 'types.d.ts', '--check'), {
    code: 0,
    out: 'types.d.ts agrees with policy.yaml\n'
  })
  writeFileSync(join(folder, 'types.d.ts'), printed.out.replaceAll('\n', '\r\n'))
  t.equal((await types('policy.yaml', '--out', 'types.d.ts', '--check')).code, 0, 'ends of lines do not count')

  const drifted = printed.out.replace('report:read', 'report:write')
  writeFileSync(join(folder, 'types.d.ts'), drifted)
  t.match(await types('policy.yaml', '--out', 'types.d.ts', '--check'), {
    code: 4,
    out: '',
    err: /types\.d\.ts does not agree with policy\.yaml; run: marty policy types policy\.yaml --out types\.d\.ts/
  })
  const { code, out } = await types('policy.yaml', '--out', 'types.d.ts', '--check', '--json')
  t.equal(code, 4)
  t.same(JSON.parse(out), { file: 'policy.yaml', out: 'types.d.ts', current: false })
  t.equal(readFileSync(join(folder, 'types.d.ts'), 'utf8'), drifted, 'checking writes nothing')
})

t.test('the shipped types agree with the shipped policy', async t => {
  t.equal((await types(join(shipped, 'rbac_policies.yaml'), '--out', join(shipped, 'types.d.ts'), '--check')).code, 0)
})
