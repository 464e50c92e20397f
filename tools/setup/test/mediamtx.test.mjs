import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  realpathSync
} from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import process from 'node:process'
import t from 'tap'
import { fileURLToPath } from 'node:url'
import { findMediaMtx } from '../src/mediamtx.mjs'
import { platformName } from '../src/mediamtx-release.mjs'
import { readVersions } from '../src/node-version.mjs'
import { faultyProgram } from './faulty-program.mjs'
import { temporaryFolder } from './temporary-folder.mjs'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))
const CACHED = `.cache/mediamtx/v${readVersions().mediamtx.version}-${platformName()}/mediamtx`
// The address of the releases refuses connections, so the download fails immediately.
const CLOSED = { MARTY_MEDIAMTX_RELEASES: await closedAddress() }

t.test('when MEDIAMTX_BIN is set and does not answer, nothing else is tried', async t => {
  const folder = temporaryFolder(t)
  const cases = [
    [path.join(folder, 'nowhere'), /does not answer --version with a version/],
    [faultyProgram(folder, 'fails', 'echo 1.20.1; exit 3'), /exit code 3/],
    [faultyProgram(folder, 'talks', 'echo hello'), /exit code 0: hello/],
    [faultyProgram(folder, 'hangs', 'exec sleep 600'), /within 5 s/],
    [faultyProgram(folder, 'hangs-with-child', 'sleep 600 & wait'), /within 5 s/],
    [faultyProgram(folder, 'old', 'echo v1.16.3'), /reports version 1\.16\.3, but at least 1\.17\.0 is required/]
  ]
  for (const [file, message] of cases) {
    await t.rejects(
      findMediaMtx({ root: ROOT, env: { PATH: '', MEDIAMTX_BIN: file } }),
      { code: 'MARTY_SETUP_MEDIAMTX_UNUSABLE', message, remedy: /unset it/ },
      path.basename(file)
    )
  }
})

t.test('a mediamtx on PATH that is too old is not used, and the reason is reported', async t => {
  const folder = temporaryFolder(t)
  const old = faultyProgram(path.join(folder, 'bin'), 'mediamtx', 'echo v1.16.0')
  const env = { PATH: path.dirname(old) }
  await t.rejects(findMediaMtx({ root: folder, env, build: false }), {
    code: 'MARTY_SETUP_MEDIAMTX_MISSING',
    output: `${old}: reports version 1.16.0, but at least 1.17.0 is required`,
    remedy: /Install MediaMTX >= 1\.17\.0 .*PATH.*MEDIAMTX_BIN.*Go >= 1\.26\.0/
  })
  t.notOk(existsSync(path.join(folder, '.cache')), 'a search without a build creates no file')

  const real = await findMediaMtx({ root: ROOT, build: false })
  place(real.path, path.join(folder, CACHED))
  const found = await findMediaMtx({ root: folder, env, build: false })
  t.match(found, { source: 'cache', path: path.join(folder, CACHED), passedOver: [/1\.16\.0/] })
})

t.test('the order: MEDIAMTX_BIN, PATH, cache', async t => {
  const real = await findMediaMtx({ root: ROOT, build: false })
  const folder = temporaryFolder(t)
  const onPath = place(real.path, path.join(folder, 'bin', 'mediamtx'))
  const named = place(real.path, path.join(folder, 'named', 'anything'))
  place(real.path, path.join(folder, CACHED))
  const PATH = path.dirname(onPath)

  t.match(await findMediaMtx({ root: folder, env: { PATH, MEDIAMTX_BIN: named } }), {
    source: 'MEDIAMTX_BIN',
    path: named,
    version: real.version
  })
  t.match(await findMediaMtx({ root: folder, env: { PATH, MEDIAMTX_BIN: '' } }), { source: 'PATH', path: onPath })
  t.notOk(existsSync(path.join(folder, '.cache/mediamtx/bin')), 'a binary outside the cache gets no link')
  t.match(await findMediaMtx({ root: folder, env: { PATH: '' } }), { source: 'cache' })
  const link = path.join(folder, '.cache/mediamtx/bin/mediamtx')
  t.equal(realpathSync(link), realpathSync(path.join(folder, CACHED)))
  t.notOk(path.isAbsolute(readlinkSync(link)), 'the link is relative, so the checkout may be moved')
})

t.test('no network and no Go: the reason of each failure is reported, and no file remains', async t => {
  const root = temporaryFolder(t)
  await t.rejects(findMediaMtx({ root, env: { PATH: '', ...CLOSED } }), {
    code: 'MARTY_SETUP_MEDIAMTX_MISSING',
    output:
      /release: http:\/\/127\.0\.0\.1:\d+\/.* cannot be downloaded: .*ECONNREFUSED.*\ngo: go is not on PATH; Go >= 1\.26\.0 is required/
  })
  t.same(readdirSync(path.join(root, '.cache/mediamtx')), [])
})

t.test('the folder of a killed setup is removed, the folder of a running setup is not', async t => {
  const gone = spawn(process.execPath, ['-e', ''])
  await once(gone, 'exit')
  const root = temporaryFolder(t)
  const cache = path.join(root, '.cache/mediamtx')
  for (const pid of [gone.pid, process.pid]) {
    mkdirSync(path.join(cache, `unfinished-${pid}-abc`, 'vendor'), { recursive: true })
  }
  await t.rejects(findMediaMtx({ root, env: { PATH: '', ...CLOSED } }), { code: 'MARTY_SETUP_MEDIAMTX_MISSING' })
  t.same(readdirSync(cache), [`unfinished-${process.pid}-abc`])
})

t.test('a Go that is too old or does not work', async t => {
  const root = temporaryFolder(t)
  const bin = path.join(root, 'bin')
  const env = { PATH: bin, ...CLOSED }
  const cases = [
    ['printf "go1.20.1\\n\\n"', /go: Go 1\.20\.1 is too old: Go >= 1\.26\.0 is required$/m],
    ['printf "go1.25.3\\nlocal\\n"', /Go 1\.25\.3 is too old: .*, and GOTOOLCHAIN=local forbids downloading it/],
    ['echo "go: broken in some way" >&2; exit 2', /does not report its version\ngo: broken in some way/]
  ]
  for (const [script, output] of cases) {
    faultyProgram(bin, 'go', script)
    await t.rejects(findMediaMtx({ root, env }), { code: 'MARTY_SETUP_MEDIAMTX_MISSING', output })
  }
  t.same(readdirSync(path.join(root, '.cache/mediamtx')), [])
})

t.test('an older Go that may download a newer one is used, and its error is shown', async t => {
  const real = temporaryFolder(t)
  const bin = path.join(real, 'bin')
  faultyProgram(
    bin,
    'go',
    'case "$1" in env) printf "go1.24.0\\nauto\\n";; *) echo "go: download go1.26.0: no way" >&2; exit 1;; esac'
  )
  const root = makeRootWithHls(real)
  await t.rejects(findMediaMtx({ root, env: { PATH: bin, ...CLOSED } }), {
    output: /go: go mod vendor failed\ngo: download go1\.26\.0: no way/
  })
})

t.test('the build needs exactly the version of hls.js with which the release was made', async t => {
  const folder = temporaryFolder(t)
  const bin = path.join(folder, 'bin')
  faultyProgram(bin, 'go', 'printf "go1.26.0\\nlocal\\n"')
  await t.rejects(findMediaMtx({ root: folder, env: { PATH: bin, ...CLOSED } }), {
    output: /the build needs hls\.js 1\.7\.0 from npm: /
  })
})

t.test('a version that is pinned in several places is the same everywhere', async t => {
  const { mediamtx, go, 'hls.js': hls } = readVersions()
  const module = readFileSync(new URL('../mediamtx/go.mod', import.meta.url), 'utf8')
  t.match(module, `\tgithub.com/bluenviron/mediamtx v${mediamtx.version} // indirect\n`)
  t.match(module, 'tool github.com/bluenviron/mediamtx\n')
  t.match(module, `\ngo ${go.minimum}\n`)
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  t.equal(manifest.devDependencies['hls.js'], hls.version)
})

/** @returns {Promise<string>} an address that refuses connections: its port has just been closed */
async function closedAddress () {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return `http://127.0.0.1:${port}`
}

/**
 * @param {string} file
 * @param {string} target
 * @returns {string}
 */
function place (file, target) {
  mkdirSync(path.dirname(target), { recursive: true })
  try {
    linkSync(realpathSync(file), target)
  } catch {
    copyFileSync(file, target)
  }
  return target
}

/**
 * @param {string} folder
 * @returns {string}
 */
function makeRootWithHls (folder) {
  const target = path.join(folder, 'node_modules', 'hls.js')
  mkdirSync(path.join(target, 'dist'), { recursive: true })
  for (const name of ['package.json', 'dist/hls.min.js']) {
    copyFileSync(path.join(ROOT, 'node_modules', 'hls.js', name), path.join(target, name))
  }
  return folder
}
