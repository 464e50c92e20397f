import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'

t.setTimeout(300_000)

const root = findRoot(import.meta.dirname)
const license = readFileSync(join(root, 'LICENSE'), 'utf8')
const published = ['packages', 'examples', 'tools']
  .flatMap(folder => readdirSync(join(root, folder)).map(name => join(folder, name)))
  .filter(isPublished)

t.test('the licence is in what npm would publish of every package', async t => {
  t.ok(published.length >= 12)
  // npm finds a LICENSE by itself, in the folder of the package alone: a copy of the one at the root.
  const { stdout } = await promisify(execFile)(
    'npm',
    ['pack', '--dry-run', '--json', '--ignore-scripts', ...published.map(folder => `./${folder}`)],
    { cwd: root, maxBuffer: 64 * 1024 * 1024 }
  )
  const packed = JSON.parse(stdout) as Array<{
    readonly name: string
    readonly files: ReadonlyArray<{ readonly path: string }>
  }>
  t.equal(packed.length, published.length)
  for (const { name, files } of packed) t.ok(files.some(({ path }) => path === 'LICENSE'), name)
  for (const folder of published) t.equal(readFileSync(join(root, folder, 'LICENSE'), 'utf8'), license, folder)
})

function isPublished (folder: string): boolean {
  const file = join(root, folder, 'package.json')
  return existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { private?: boolean }).private !== true
}

function findRoot (from: string): string {
  return existsSync(join(from, 'package-lock.json')) ? from : findRoot(dirname(from))
}
