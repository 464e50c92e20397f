import { rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import t from 'tap'
import { fileURLToPath } from 'node:url'
import { findMediaMtx } from '../src/mediamtx.mjs'
import { makeMiniature } from './miniature.mjs'
import { runSetup } from './run-setup.mjs'
import { temporaryFolder } from './temporary-folder.mjs'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

t.test('wrong arguments: exit code 2 and the most similar correct one', async t => {
  const root = makeMiniature(t)
  const cases = [
    [['--for', 'tset'], /--for "tset" is unknown\. Did you mean test\?\n {2}Known: start, test, v4l2\./],
    [['--for'], /--for needs a value/],
    [['--jsn'], /Unknown argument "--jsn"\. Did you mean --json\?/],
    [['everything'], /Unknown argument "everything"\.\n/]
  ]
  for (const [args, expected] of cases) {
    const result = await runSetup(root, args)
    t.equal(result.code, 2, args.join(' '))
    t.match(result.stderr, expected)
    t.match(result.stderr, /^MARTY_SETUP_ARGUMENT_INVALID: /)
    t.equal(result.stdout, '')
  }
})

t.test('an ordinary user, without the parts', async t => {
  const bare = temporaryFolder(t)
  const env = { PATH: bare, MEDIAMTX_BIN: path.join(bare, 'no-such-mediamtx') }

  t.test('--for test stops and names the command to run', async t => {
    const result = await runSetup(makeMiniature(t), ['--for', 'test'], { env, asNobody: true })
    t.equal(result.code, 1)
    t.match(
      result.stdout,
      /✗ system parts +Missing: ffmpeg \(ffmpeg, ffprobe\);.*redis-server \(redis-server\); chromium \(chromium\)\./
    )
    t.match(result.stdout, 'MARTY_SETUP_PARTS_MISSING')
    t.match(result.stdout, /What to do: .*ffmpeg.*redis-server.*chromium/)
    t.match(result.stdout, 'Not ready: stopped after')
    t.notMatch(result.stdout, 'mediamtx ', 'nothing after the failed step ran')
  })

  t.test('--for start warns and goes on: the service starts degraded', async t => {
    const result = await runSetup(makeMiniature(t), ['--for', 'start'], { env, asNobody: true })
    t.equal(result.code, 0)
    t.match(result.stdout, /! system parts +Missing: ffmpeg/)
    t.match(result.stdout, /What to do: .*ffmpeg/)
    t.match(result.stdout, /! mediamtx +MEDIAMTX_BIN=.*no-such-mediamtx: does not answer --version/)
    t.match(result.stdout, /✓ typescript +compiled/)
    t.match(result.stdout, 'Ready, with warnings, after')
  })
})

t.test('missing dependencies also stop --for start, and the output of npm is shown', async t => {
  const root = makeMiniature(t, { installed: false })
  writeFileSync(path.join(root, '.npmrc'), 'offline=true\n')
  const lock = path.join(root, 'package-lock.json')
  const missing = {
    version: '1.0.0',
    resolved: 'https://registry.example.invalid/a-package/-/a-package-1.0.0.tgz',
    integrity: `sha512-${'A'.repeat(86)}==`
  }
  writeFileSync(
    path.join(root, 'package.json'),
    JSON.stringify({ name: 'miniature', version: '1.0.0', dependencies: { 'a-package': '1.0.0' } })
  )
  writeFileSync(
    lock,
    JSON.stringify({
      name: 'miniature',
      version: '1.0.0',
      lockfileVersion: 3,
      packages: {
        '': { name: 'miniature', version: '1.0.0', dependencies: { 'a-package': '1.0.0' } },
        'node_modules/a-package': missing
      }
    })
  )
  const result = await runSetup(root, ['--for', 'start'], { env: { npm_config_cache: temporaryFolder(t) } })
  t.equal(result.code, 1)
  t.match(result.stdout, 'MARTY_SETUP_NPM_FAILED')
  t.match(result.stdout, /npm error.*ENOTCACHED/, 'what npm printed is shown')
  t.match(result.stdout, 'npm ci')
})

t.test('sources that do not compile stop setup, and the output of the compiler is shown', async t => {
  const root = makeMiniature(t)
  writeFileSync(path.join(root, 'packages/one/src/index.ts'), 'export const one: number = "1"\n')
  const result = await runSetup(root, ['--for', 'start'])
  t.equal(result.code, 1)
  t.match(result.stdout, /packages\/one\/src\/index\.ts\(1,14\): error TS2322/)
  t.match(result.stdout, 'MARTY_SETUP_COMPILE_FAILED')
})

t.test('--json: standard output is one JSON report, the progress is on standard error', async t => {
  const root = makeMiniature(t)
  const mediamtx = await findMediaMtx({ root: ROOT, build: false })
  const env = { MEDIAMTX_BIN: mediamtx.path }
  const first = await runSetup(root, ['--for', 'test', '--json'], { env })
  t.equal(first.code, 0, first.stderr)
  const report = JSON.parse(first.stdout)
  t.match(report, { ok: true, purpose: 'test', mediamtx: { path: mediamtx.path, source: 'MEDIAMTX_BIN' } })
  t.same(
    report.steps.map(step => [step.name, step.status]),
    [
      ['node', 'ok'],
      ['npm dependencies', 'ok'],
      ['system parts', 'ok'],
      ['mediamtx', 'ok'],
      ['typescript', 'ok']
    ]
  )
  t.match(first.stderr, /Setting up for test\n/)
  t.notMatch(first.stderr, '\u001B', 'no colours outside a terminal')

  const second = JSON.parse((await runSetup(root, ['--for', 'test', '--json'], { env })).stdout)
  t.match(
    second.steps.map(step => step.detail),
    [/./, 'unchanged', /ffmpeg/, /./, 'unchanged']
  )

  rmSync(path.join(root, 'package-lock.json'))
  const failed = await runSetup(root, ['--json'], { env })
  t.equal(failed.code, 1)
  t.match(JSON.parse(failed.stdout), {
    ok: false,
    steps: [{}, { status: 'failed', code: 'MARTY_SETUP_LOCKFILE_STALE', remedy: 'npm install' }]
  })
})

t.test('--help', async t => {
  const result = await runSetup(makeMiniature(t), ['--help'])
  t.equal(result.code, 0)
  for (const word of ['--for', '--json', 'MEDIAMTX_BIN', 'MARTY_MEDIAMTX_RELEASES', 'NO_COLOR']) {
    t.match(result.stdout, word)
  }
})
