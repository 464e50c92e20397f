import { execFile, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { promisify } from 'node:util'
import { eventually } from '@marty/testing'
import t from 'tap'
import { startService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

const root = resolve(import.meta.dirname, '../../..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

t.test('generated documents are up to date', async t => {
  await t.resolves(promisify(execFile)(process.execPath, [join(root, 'docs/generate.mjs'), '--check']))
})

t.test('links between the documents are not broken', async t => {
  for (const file of documents(root)) {
    for (const [, target] of readFileSync(file, 'utf8').matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)/g)) {
      t.ok(existsSync(resolve(dirname(file), target!)), `${relative(root, file)} links to ${target}`)
    }
  }
})

t.test('the program in the README works as printed', async t => {
  const service = await startService({ env: { CAMERA_SERVICE_CAMERAS_TEST_PATTERN: 'never' } })
  const [, program] = /```js\n([\s\S]*?)```/.exec(read('README.md')) ?? []
  const folder = await mkdtemp(join(import.meta.dirname, 'readme-'))
  const file = join(folder, 'program.mjs')
  await writeFile(file, program!.replace('127.0.0.1:8002', `127.0.0.1:${service.ports.SERVER_PORT}`))
  const child = spawn(process.execPath, [file, await service.token('operator')])
  let output = ''
  child.stdout.on('data', chunk => { output += chunk })
  child.stderr.on('data', chunk => { output += chunk })
  await eventually(() => { if (!output.includes('"authenticated":true')) throw new Error(output) })
  child.kill()
  await rm(folder, { recursive: true })
  await service.stop()
})

function documents (folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    if (['node_modules', 'dist', 'dist-test', '.git', '.cache', 'data'].includes(entry.name)) return []
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return documents(path)
    return entry.name.endsWith('.md') ? [path] : []
  })
}
