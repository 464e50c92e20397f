import { spawnSync } from 'node:child_process'
import { accessSync, constants, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import t from 'tap'

// What `npx @marty/cli` and, in a clone, `npx marty` run.

const root = resolve(import.meta.dirname, '../../..')
const home = join(root, 'packages/cli')
const json = (file: string): Readonly<Record<string, unknown>> =>
  JSON.parse(readFileSync(file, 'utf8')) as Readonly<Record<string, unknown>>
const run = (script: string, ...args: readonly string[]): { code: number | null; out: string; err: string } => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' })
  return { code: status, out: stdout, err: stderr }
}

t.test('the command is a file that a clean clone has, which npm can link, pack and run', async t => {
  const { bin, files, version } = json(join(home, 'package.json')) as unknown as {
    bin: Record<string, string>
    files: readonly string[]
    version: string
  }
  t.same(bin, { marty: './bin/marty.js' })
  t.ok(files.includes('bin'))
  t.match((json(join(root, 'package-lock.json'))['packages'] as Record<string, unknown>)['packages/cli'], {
    version,
    bin: { marty: 'bin/marty.js' }
  })
  accessSync(join(home, bin['marty']!), constants.X_OK)
  t.match(run(join(home, bin['marty']!), '--help'), { code: 0, out: /policy check/, err: '' })
  t.equal(run(join(home, bin['marty']!), 'policy', 'chek').code, 2, 'exit codes come through')
})

t.test('before anything is compiled it says what to run', async t => {
  const clone = mkdtempSync(join(tmpdir(), 'marty-clone-'))
  t.teardown(() => {
    rmSync(clone, { recursive: true })
  })
  mkdirSync(join(clone, 'packages/cli'), { recursive: true })
  for (const name of ['package.json', 'bin']) {
    cpSync(join(home, name), join(clone, 'packages/cli', name), { recursive: true })
  }
  t.match(run(join(clone, 'packages/cli/bin/marty.js'), 'policy', 'check', 'x'), {
    code: 1,
    out: '',
    err: 'marty is not compiled yet; run this at the root of the project: npm run build\n'
  })
})
