import { chmodSync, cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from './temporary-folder.mjs'

const SETUP = fileURLToPath(new URL('..', import.meta.url))
const ROOT = path.resolve(SETUP, '../..')

/**
 * Creates a small checkout: this setup, and one workspace with one source that needs no dependency. Its dependencies
 * count as installed, and it has a link to the real compiler. With `installed: false`, it has no node_modules.
 *
 * @param {import('tap').Test} t
 * @param {{ installed?: boolean }} [options]
 * @returns {string} the root of the checkout
 */
export function makeMiniature (t, { installed = true } = {}) {
  const root = temporaryFolder(t)
  for (const name of ['setup.mjs', 'src', 'mediamtx', 'versions.json']) {
    cpSync(path.join(SETUP, name), path.join(root, 'tools', 'setup', name), { recursive: true })
  }
  mkdirSync(path.join(root, 'packages', 'one', 'src'), { recursive: true })
  chmodSync(path.join(root, 'packages', 'one'), 0o777)
  writeJson(root, 'package.json', { name: 'miniature', version: '1.0.0', type: 'module', workspaces: ['packages/*'] })
  writeJson(root, 'packages/one/package.json', { name: 'one', version: '1.0.0', type: 'module' })
  writeJson(root, 'tsconfig.json', { files: [], references: [{ path: './packages/one' }] })
  writeJson(root, 'packages/one/tsconfig.json', {
    compilerOptions: {
      composite: true,
      rootDir: 'src',
      outDir: 'dist',
      tsBuildInfoFile: 'dist/.tsbuildinfo',
      types: []
    },
    include: ['src']
  })
  writeFileSync(path.join(root, 'packages/one/src/index.ts'), 'export const one: number = 1\n')
  const packages = {
    'node_modules/one': { resolved: 'packages/one', link: true },
    'packages/one': { version: '1.0.0' }
  }
  const lock = { name: 'miniature', version: '1.0.0', lockfileVersion: 3, requires: true }
  writeJson(root, 'package-lock.json', {
    ...lock,
    packages: { '': { name: 'miniature', version: '1.0.0', workspaces: ['packages/*'] }, ...packages }
  })
  if (installed) {
    mkdirSync(path.join(root, 'node_modules'))
    symlinkSync(path.join(ROOT, 'node_modules', 'typescript'), path.join(root, 'node_modules', 'typescript'))
    writeJson(root, 'node_modules/.package-lock.json', { ...lock, packages })
  }
  return root
}

/**
 * @param {string} root
 * @param {string} name
 * @param {unknown} value
 */
export function writeJson (root, name, value) {
  writeFileSync(path.join(root, name), `${JSON.stringify(value, undefined, 2)}\n`)
}
