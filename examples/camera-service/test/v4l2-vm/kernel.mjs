import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const guestInit = fileURLToPath(new URL('guest-init.sh', import.meta.url))
/** What it takes to mount the host's root; every other module is loaded later, from the mounted root. */
const bootModules = ['virtio_pci', '9pnet_virtio', '9p', 'overlay']

/**
 * Brings Debian's kernel and an initramfs into the cache folder, or finds them there.
 * Each is made under a temporary name and renamed when whole, so a killed run leaves nothing half done in use.
 * @param {string} cache folder that survives between runs
 * @param {Record<string, string>} programs from findPrograms()
 * @param {(line: string) => void} say progress
 * @returns {Promise<{ image: string, initramfs: string, modules: string, release: string }>}
 */
export async function prepareKernel (cache, programs, say) {
  await mkdir(cache, { recursive: true })
  await removeLeftovers(cache)
  const folder = join(cache, 'kernel')
  if (!existsSync(folder)) {
    await inScratch(cache, async scratch => {
      const made = await fetchKernel(scratch, programs, say)
      await renameUnlessThere(made, folder)
    })
  }
  const modules = join(folder, 'lib/modules')
  const [release] = await readdir(modules)
  const kernel = { image: join(folder, 'vmlinuz'), modules: join(modules, release), release }
  return { ...kernel, initramfs: await makeInitramfs(cache, folder, release, programs) }
}

async function fetchKernel (scratch, programs, say) {
  const name = await kernelPackage(programs, say)
  say(`downloading ${name}`)
  await run(programs['apt-get'], ['download', name], { cwd: scratch }).catch(error => {
    throw new Error(`apt-get download ${name} failed: ${error.stderr?.trim() || error.message}`)
  })
  const archive = (await readdir(scratch)).find(file => file.endsWith('.deb'))
  const unpacked = join(scratch, 'unpacked')
  say('unpacking the kernel')
  await run(programs['dpkg-deb'], ['-x', join(scratch, archive), unpacked])

  const made = join(scratch, 'made')
  await mkdir(join(made, 'lib'), { recursive: true })
  // With a merged /usr the package itself may carry usr/lib/modules.
  const tree = existsSync(join(unpacked, 'lib/modules')) ? 'lib/modules' : 'usr/lib/modules'
  await rename(join(unpacked, tree), join(made, 'lib/modules'))
  const [release] = await readdir(join(made, 'lib/modules'))
  await copyFile(join(unpacked, `boot/vmlinuz-${release}`), join(made, 'vmlinuz'))
  await run(programs.depmod, ['-b', made, release])
  return made
}

/** The name of the current kernel package behind Debian's meta package. */
async function kernelPackage (programs, say) {
  const look = async () => {
    const { stdout } = await run('apt-cache', ['depends', 'linux-image-amd64'], {
      env: { ...process.env, LC_ALL: 'C' }
    }).catch(() => ({ stdout: '' }))
    return /Depends: (linux-image-\S+)/.exec(stdout)?.[1]
  }
  const known = await look()
  if (known !== undefined) return known
  if (process.getuid() === 0) {
    say('apt knows no kernel package: apt-get update')
    await run(programs['apt-get'], ['update', '-q'])
    const updated = await look()
    if (updated !== undefined) return updated
  }
  throw new Error(
    'apt does not know the package linux-image-amd64; run "apt-get update" as root (the V4L2 tests boot Debian\'s ' +
      'kernel and need a Debian package source)'
  )
}

async function makeInitramfs (cache, folder, release, programs) {
  const hash = createHash('sha256').update(release)
  for (const file of [guestInit, programs.busybox]) hash.update(await readFile(file))
  const path = join(cache, `initramfs-${hash.digest('hex').slice(0, 16)}.cpio.gz`)
  if (existsSync(path)) return path
  await inScratch(cache, async scratch => {
    const root = join(scratch, 'root')
    for (const mountPoint of ['bin', 'dev', 'lower', 'modules', 'proc', 'root', 'sys', 'upper']) {
      await mkdir(join(root, mountPoint), { recursive: true })
    }
    await copyFile(programs.busybox, join(root, 'bin/busybox'))
    await copyFile(guestInit, join(root, 'init'))
    await chmod(join(root, 'init'), 0o755)
    const files = await moduleFiles(folder, release, programs)
    for (const file of files) await copyModule(file, join(root, 'modules', plainName(file)))
    await writeFile(join(root, 'modules/order'), files.map(file => `${plainName(file)}\n`).join(''))
    const archive = join(scratch, 'initramfs')
    // All arguments are passed as positional parameters: no path is ever parsed by the shell.
    await run('/bin/sh', ['-c', 'cd "$1" && find . | "$2" -o -H newc --quiet | gzip > "$3"', 'sh', root, programs.cpio, archive])
    await rename(archive, path)
  })
  return path
}

/** Module files in the order in which they have to be loaded. */
async function moduleFiles (folder, release, programs) {
  const files = new Set()
  for (const name of bootModules) {
    const { stdout } = await run(programs.modprobe, ['-d', folder, '-S', release, '--show-depends', name])
    for (const line of stdout.split('\n')) {
      const file = /^insmod (\S.*?)\s*$/.exec(line)?.[1]
      if (file !== undefined) files.add(file)
    }
  }
  return [...files]
}

const plainName = file => basename(file, '.xz')

/** Newer Debian kernels carry compressed modules, which busybox cannot load everywhere. */
async function copyModule (from, to) {
  if (!from.endsWith('.xz')) return await copyFile(from, to)
  const { stdout } = await run('xz', ['-dc', from], { encoding: 'buffer', maxBuffer: 64 * 1024 * 1024 })
  await writeFile(to, stdout)
}

/** What a killed run could not remove itself; younger folders may belong to a run beside this one. */
async function removeLeftovers (cache) {
  for (const name of await readdir(cache)) {
    if (!/^(making|share)-/.test(name)) continue
    const { mtimeMs } = await stat(join(cache, name)).catch(() => ({ mtimeMs: Infinity }))
    if (mtimeMs < Date.now() - 3600_000) await rm(join(cache, name), { recursive: true, force: true })
  }
}

async function inScratch (cache, work) {
  const scratch = await mkdtemp(join(cache, 'making-'))
  try { await work(scratch) } finally { await rm(scratch, { recursive: true, force: true }) }
}

/** Two runs may prepare at once: the first to finish wins, the other's copy is the same and is dropped. */
async function renameUnlessThere (from, to) {
  try {
    await rename(from, to)
  } catch (error) {
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
  }
}
