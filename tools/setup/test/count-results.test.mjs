import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import t from 'tap'
import { fileURLToPath } from 'node:url'
import { countResults } from '../src/count-results.mjs'
import { faultyProgram } from './faulty-program.mjs'
import { temporaryFolder } from './temporary-folder.mjs'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

t.test('results that must not look like success', async t => {
  const silent = countResults([{ name: 'lint', output: 'nothing\n', exitCode: 0 }])
  t.match(silent, { passed: 0, failed: 1, ok: false, problems: ['lint printed no result line (exit code 0)'] })

  const crashed = countResults([{ name: 'unit', output: '# { total: 2, pass: 2 }\n', exitCode: 7 }])
  t.match(crashed, { passed: 2, failed: 1, ok: false, problems: ['unit ended with exit code 7'] })

  const failing = countResults([{ name: 'unit', output: '# { total: 9, pass: 7, fail: 2 }\n', exitCode: 1 }])
  t.match(failing, { passed: 7, failed: 2, ok: false, problems: [] })

  const denying = countResults([{ name: 'unit', output: '# { total: 3, fail: 3 }\n', exitCode: 0 }])
  t.match(denying, { passed: 0, failed: 3, ok: false }, 'counted failures are failures, in spite of exit code 0')

  t.match(countResults([]), { passed: 0, failed: 0, ok: false }, 'no suite at all')
})

t.test('closing lines are added up within a suite and over all suites, and subtests are not counted twice', async t => {
  const output = [
    '# Subtest: one',
    '    # { total: 4, pass: 4 }',
    'ok 1 - one',
    '# { total: 4, pass: 3, skip: 1 }',
    '# time=1ms',
    'said: # { total: 100, pass: 100 }',
    '# { total: 5, pass: 5 }\r',
    ''
  ].join('\n')
  t.same(
    countResults([
      { name: 'a', output, exitCode: 0 },
      { name: 'b', output: '# { total: 1, pass: 1 }', exitCode: 0 }
    ]),
    { passed: 9, failed: 0, ok: true, problems: [] }
  )
})

t.test('tap prints the closing line that is read here', async t => {
  const folder = temporaryFolder(t)
  symlinkSync(path.join(ROOT, 'node_modules'), path.join(folder, 'node_modules'))
  writeFileSync(path.join(folder, 'package.json'), '{ "type": "module" }')
  writeFileSync(
    path.join(folder, 'real.test.mjs'),
    "import t from 'tap'\nt.test('a', async (t) => { t.ok(1); t.ok(2) })\nt.ok(0)\n"
  )
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/TAP|^NODE_OPTIONS$/.test(name)))
  const command = [
    '-u',
    'NODE_OPTIONS',
    process.execPath,
    path.join(ROOT, 'node_modules/tap/dist/esm/run.mjs'),
    'real.test.mjs',
    '--disable-coverage'
  ]
  const { stdout, status } = spawnSync('/usr/bin/env', command, {
    cwd: folder,
    encoding: 'utf8',
    env: { ...env, TAP_REPORTER: 'tap' }
  })
  t.same(countResults([{ name: 'real', output: stdout, exitCode: Number(status) }]), {
    passed: 2,
    failed: 1,
    ok: false,
    problems: []
  })
})

t.test('.ci/run', async t => {
  const root = temporaryFolder(t)
  mkdirSync(path.join(root, 'tools/setup'), { recursive: true })
  cpSync(path.join(ROOT, '.ci'), path.join(root, '.ci'), { recursive: true })
  cpSync(path.join(ROOT, 'tools/setup/src'), path.join(root, 'tools/setup/src'), { recursive: true })
  const bin = path.join(root, 'bin')
  /** @param {string} script what npm runs instead of the suites */
  const ci = script => {
    faultyProgram(bin, 'npm', script)
    const { stdout, status } = spawnSync(path.join(root, '.ci/run'), {
      cwd: '/',
      encoding: 'utf8',
      env: { ...process.env, PATH: `${bin}:${process.env.PATH}` }
    })
    return { status, stdout, last: stdout.trimEnd().split('\n').at(-1) }
  }

  t.test('a first suite that fails does not hide the second', async t => {
    const run = ci(
      'echo "npm $*" >&2; if [ "$1" = test ]; then echo "# { total: 3, pass: 2, fail: 1 }"; exit 1; else echo "# { total: 4, pass: 4 }"; fi'
    )
    t.equal(run.status, 1)
    t.equal(run.last, '6 passed, 1 failed')
    t.match(run.stdout, 'npm test\n', 'both streams are shown')
    t.match(run.stdout, 'npm run test:v4l2\n')
  })

  t.test('a failure of the second suite counts', async t => {
    const run = ci('echo "# { total: 2, pass: 2 }"; [ "$1" = test ]')
    t.equal(run.status, 1)
    t.equal(run.last, '4 passed, 1 failed')
    t.match(run.stdout, 'test-v4l2 ended with exit code 1')
  })

  t.test('a suite without a result line fails', async t => {
    const run = ci('if [ "$1" = test ]; then echo "# { total: 2, pass: 2 }"; fi')
    t.equal(run.status, 1)
    t.match(run.stdout, 'test-v4l2 printed no result line (exit code 0)')
    t.equal(run.last, '2 passed, 1 failed')
  })

  t.test('both suites succeed', async t => {
    const run = ci('echo "# { total: 9, pass: 9 }"')
    t.equal(run.status, 0)
    t.equal(run.last, '18 passed, 0 failed')
  })
})
