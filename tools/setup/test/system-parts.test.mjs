import { copyFileSync, readFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import t from 'tap'
import { isStaticBinary } from '../src/elf.mjs'
import { provideSystemParts } from '../src/system-parts.mjs'
import { faultyProgram } from './faulty-program.mjs'
import { temporaryFolder } from './temporary-folder.mjs'

const USER = { platform: 'linux', debian: true, root: false }
const ROOT = { platform: 'linux', debian: true, root: true }

t.test('an ordinary user gets the exact command, with only what is missing', async t => {
  const bare = temporaryFolder(t)
  await t.rejects(provideSystemParts({ purpose: 'start', env: { PATH: bare }, machine: USER }), {
    code: 'MARTY_SETUP_PARTS_MISSING',
    message: 'Missing: ffmpeg (ffmpeg, ffprobe); v4l-utils (v4l2-ctl).',
    remedy: 'sudo apt-get update && sudo apt-get install -y --no-install-recommends ffmpeg v4l-utils'
  })
  faultyProgram(bare, 'ffmpeg', 'exit 0')
  faultyProgram(bare, 'v4l2-ctl', 'exit 0')
  await t.rejects(provideSystemParts({ purpose: 'test', env: { PATH: bare }, machine: USER }), {
    message: 'Missing: ffmpeg (ffprobe); redis-server (redis-server); chromium (chromium).',
    remedy: 'sudo apt-get update && sudo apt-get install -y --no-install-recommends ffmpeg redis-server chromium'
  })
})

t.test('other systems', async t => {
  const env = { PATH: temporaryFolder(t) }
  const mac = { platform: 'darwin', debian: false, root: false }
  await t.rejects(
    provideSystemParts({ purpose: 'start', env, machine: mac }),
    {
      message: 'Missing: ffmpeg (ffmpeg, ffprobe).',
      remedy: 'brew install ffmpeg'
    },
    'v4l-utils is not required on a system without V4L2'
  )
  await t.rejects(provideSystemParts({ purpose: 'v4l2', env, machine: mac }), { message: /need Linux/ })
  await t.rejects(
    provideSystemParts({ purpose: 'start', env, machine: { platform: 'linux', debian: false, root: true } }),
    {
      remedy: /package manager of this system.*: ffmpeg v4l-utils$/
    },
    'on a system other than Debian, root installs nothing'
  )
})

t.test('as root on Debian: one update, then an install of what is missing', async t => {
  const folder = temporaryFolder(t)
  const log = path.join(folder, 'log')
  faultyProgram(folder, 'v4l2-ctl', 'exit 0')
  faultyProgram(
    folder,
    'apt-get',
    `
    echo "$DEBIAN_FRONTEND: $*" >> ${log}
    case "$*" in *install*) for name in ffmpeg ffprobe; do /bin/cp ${folder}/v4l2-ctl ${folder}/$name; done;; esac`
  )
  const result = await provideSystemParts({ purpose: 'start', env: { PATH: folder }, machine: ROOT })
  t.same(result, { present: ['v4l-utils'], installed: ['ffmpeg'] })
  t.match(
    readFileSync(log, 'utf8'),
    /^noninteractive: .* update\nnoninteractive: .* install -y --no-install-recommends ffmpeg\n$/
  )
  t.same(await provideSystemParts({ purpose: 'start', env: { PATH: folder }, machine: ROOT }), {
    present: ['ffmpeg', 'v4l-utils'],
    installed: []
  })
  t.equal(readFileSync(log, 'utf8').split('\n').length, 3, 'apt-get did not run again')
})

t.test('the output of a failed apt-get is shown', async t => {
  const folder = temporaryFolder(t)
  faultyProgram(folder, 'apt-get', 'echo "E: words of $4 $3" >&2; exit 100')
  await t.rejects(provideSystemParts({ purpose: 'start', env: { PATH: folder }, machine: ROOT }), {
    code: 'MARTY_SETUP_APT_FAILED',
    output: /E: words of {2}update\nE: words of -y install/,
    remedy: 'apt-get update && apt-get install -y --no-install-recommends ffmpeg v4l-utils'
  })
})

t.test('an apt-get that reports success but installs nothing is an error', async t => {
  const folder = temporaryFolder(t)
  faultyProgram(folder, 'apt-get', 'exit 0')
  await t.rejects(provideSystemParts({ purpose: 'start', env: { PATH: folder }, machine: ROOT }), {
    code: 'MARTY_SETUP_PARTS_MISSING'
  })
})

t.test('the busybox of the virtual machine must be a static binary', async t => {
  const folder = temporaryFolder(t)
  for (const name of ['ffmpeg', 'ffprobe', 'v4l2-ctl', 'qemu-system-x86_64', 'cpio', 'modprobe', 'depmod']) {
    faultyProgram(folder, name, 'exit 0')
  }
  copyFileSync(process.execPath, path.join(folder, 'busybox'))
  t.notOk(isStaticBinary(process.execPath), 'Node itself needs a dynamic loader')
  t.notOk(isStaticBinary(path.join(folder, 'cpio')), 'a script is not a static binary')
  await t.rejects(provideSystemParts({ purpose: 'v4l2', env: { PATH: folder }, machine: USER }), {
    message: 'Missing: busybox-static (busybox).'
  })
})

t.test('this machine has the parts that the tests need', async t => {
  const { present } = await provideSystemParts({ purpose: 'test', machine: USER })
  t.same(
    present.filter(name => name !== 'v4l-utils'),
    ['ffmpeg', 'redis-server', 'chromium']
  )
})
