import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync, readdirSync, realpathSync, symlinkSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import t from 'tap'
import { fileURLToPath } from 'node:url'
import { findMediaMtx } from '../src/mediamtx.mjs'
import { platformName } from '../src/mediamtx-release.mjs'
import { readVersions } from '../src/node-version.mjs'
import { faultyProgram } from './faulty-program.mjs'
import { temporaryFolder } from './temporary-folder.mjs'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))
const { version } = readVersions().mediamtx
const ARCHIVE = `mediamtx_v${version}_${platformName().replace('-', '_')}.tar.gz`

t.test('data that is not the published release is refused, and no file of it remains', async (t) => {
  const folder = temporaryFolder(t)
  faultyProgram(folder, 'mediamtx', `echo v${version}`)
  const good = pack(folder, 'mediamtx')
  faultyProgram(path.join(folder, 'mute'), 'mediamtx', 'exit 1')
  const mute = pack(path.join(folder, 'mute'), 'mediamtx')
  faultyProgram(path.join(folder, 'other'), 'other', 'exit 0')
  const foreign = pack(path.join(folder, 'other'), 'other')
  symlinkSync('/bin/true', path.join(folder, 'other', 'mediamtx'))
  const link = pack(path.join(folder, 'other'), 'mediamtx')
  const half = good.subarray(0, good.length / 2)

  const cases = [
    ['a wrong checksum', { archive: good, checksums: lineFor(Buffer.from('another')) },
      new RegExp(`refused: ${ARCHIVE} has the SHA-256 ${sha256(good)}, but the release publishes ${sha256(Buffer.from('another'))}`)],
    ['no line for the archive', { archive: good, checksums: `${sha256(good)} *mediamtx_v${version}_plan9_mips.tar.gz\n` },
      new RegExp(`refused: checksums\\.sha256 has no line for ${ARCHIVE}`)],
    ['an empty list', { archive: good, checksums: '' }, /has no line for/],
    ['a longer name that begins in the same way', { archive: good, checksums: lineFor(good).replace('.tar.gz', '.tar.gz.sig') }, /has no line for/],
    ['a hash of another length', { archive: good, checksums: `${sha256(good).slice(0, 40)} *${ARCHIVE}\n` }, /has no line for/],
    ['a list that is too long', { archive: good, checksums: 'x'.repeat(100_000) }, /is larger than 65536 bytes/],
    ['a download that stops in the middle', { archive: good, checksums: lineFor(good), cutAt: half.length }, /cannot be downloaded: /],
    ['a published archive that is incomplete', { archive: half, checksums: lineFor(half) }, /refused: .* cannot be unpacked\n.*tar/s],
    ['an archive without the program', { archive: foreign, checksums: lineFor(foreign) }, /refused: .* cannot be unpacked/],
    ['a link instead of the program', { archive: link, checksums: lineFor(link) }, /refused: mediamtx in .* is not a regular file/],
    ['a program that does not answer', { archive: mute, checksums: lineFor(mute) }, /the new binary does not answer --version/],
    ['no such release', { archive: good, checksums: undefined }, /checksums\.sha256 cannot be downloaded: HTTP status 404/]
  ]
  for (const [name, release, output] of cases) {
    const root = temporaryFolder(t)
    const env = { PATH: '', MARTY_MEDIAMTX_RELEASES: await serve(t, release) }
    await t.rejects(findMediaMtx({ root, env }), { code: 'MARTY_SETUP_MEDIAMTX_MISSING', output }, name)
    t.same(readdirSync(path.join(root, '.cache/mediamtx')), [], `${name}: no file remains`)
  }
})

t.test('an address without protection is refused', async (t) => {
  for (const address of ['http://mirror.example.invalid/releases', 'ftp://127.0.0.1/', 'not an address']) {
    await t.rejects(findMediaMtx({ root: temporaryFolder(t), env: { PATH: '', MARTY_MEDIAMTX_RELEASES: address } }), {
      output: /MARTY_MEDIAMTX_RELEASES must be an https address/
    }, address)
  }
})

t.test('a server that never answers costs seconds, not minutes', async (t) => {
  const silent = http.createServer(() => {})
  const env = { PATH: '', MARTY_MEDIAMTX_RELEASES: await listen(t, silent) }
  await t.rejects(findMediaMtx({ root: temporaryFolder(t), env }), { output: /cannot be downloaded: .*timeout/i })
})

t.test('the published archive is verified, unpacked, started once and kept', async (t) => {
  const real = await findMediaMtx({ root: ROOT, build: false })
  const folder = temporaryFolder(t)
  symlinkSync(realpathSync(real.path), path.join(folder, 'mediamtx'))
  const archive = pack(folder, 'mediamtx', ['--dereference'])
  const root = temporaryFolder(t)
  const requests = []
  const address = await serve(t, { archive, checksums: `${'0'.repeat(64)} *another.tar.gz\n${lineFor(archive)}` }, requests)
  const env = { PATH: '', MARTY_MEDIAMTX_RELEASES: `${address}/` }

  const said = []
  const [one, two] = await Promise.all([1, 2].map(() => findMediaMtx({ root, env, say: (text) => said.push(text) })))
  const kept = path.join(root, `.cache/mediamtx/v${version}-${platformName()}/mediamtx`)
  t.match(one, { path: kept, version: real.version, source: 'release', passedOver: [] })
  t.same(two, one, 'two concurrent setups have the same result')
  t.same(readdirSync(path.join(root, '.cache/mediamtx')).sort(), ['bin', `v${version}-${platformName()}`])
  t.equal(sha256(readFileSync(kept)), sha256(readFileSync(real.path)))
  t.equal(realpathSync(path.join(root, '.cache/mediamtx/bin/mediamtx')), realpathSync(kept))
  t.ok(said.includes(`downloading ${ARCHIVE}: 100 %`))

  const before = requests.length
  t.match(await findMediaMtx({ root, env }), { path: kept, source: 'cache' })
  t.equal(requests.length, before, 'nothing is downloaded twice')
  t.ok(existsSync(kept))
})

/**
 * @param {import('tap').Test} t
 * @param {{ archive: Buffer, checksums: string | undefined, cutAt?: number }} release
 * @param {string[]} [requests] collects the paths of the requests
 * @returns {Promise<string>} the base address
 */
async function serve (t, { archive, checksums, cutAt }, requests = []) {
  return listen(t, http.createServer((request, response) => {
    requests.push(String(request.url))
    if (request.url === `/v${version}/checksums.sha256` && checksums !== undefined) response.end(checksums)
    else if (request.url === `/v${version}/${ARCHIVE}`) {
      response.setHeader('content-length', archive.length)
      if (cutAt === undefined) response.end(archive)
      else response.write(archive.subarray(0, cutAt), () => response.destroy())
    } else response.writeHead(404).end()
  }))
}

/**
 * @param {import('tap').Test} t
 * @param {http.Server} server
 */
async function listen (t, server) {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${server.address().port}`
}

/**
 * @param {string} folder
 * @param {string} name
 * @param {readonly string[]} [options]
 * @returns {Buffer}
 */
function pack (folder, name, options = []) {
  return execFileSync('tar', [...options, '-C', folder, '-czf', '-', name], { maxBuffer: 256 * 1024 * 1024 })
}

/** @param {Buffer} content */
function lineFor (content) {
  return `${sha256(content)} *${ARCHIVE}\n`
}

/** @param {Buffer} content */
function sha256 (content) {
  return createHash('sha256').update(content).digest('hex')
}
