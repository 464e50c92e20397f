import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { run } from './command.mjs'
import { SetupError } from './errors.mjs'
import { readStamp, writeStamp } from './stamp.mjs'

const NOT_SOURCES = new Set(['node_modules', 'dist', 'dist-test', '.tap', '.cache', 'coverage'])
const SOURCE = /\.(?:[cm]?tsx?|json)$/

/**
 * Compiles the projects of the root tsconfig.json when a source, a tsconfig or a package.json changed since the last
 * successful build, or when a project was never built. Compares only file times and sizes.
 *
 * @param {{ root: string, say?: (text: string) => void }} options
 * @returns {Promise<'unchanged' | 'compiled'>}
 * @throws {SetupError} MARTY_SETUP_COMPILE_FAILED with the compiler's own output
 */
export async function compileTypeScript ({ root, say = () => {} }) {
  const projects = findProjects(root)
  // Taken before the build, so that a file that changes during the build is compiled next time.
  const fingerprint = fingerprintSources(root, projects)
  if (readStamp(root, 'typescript') === fingerprint && projects.every(isBuilt)) return 'unchanged'

  say('tsc -b')
  const compiler = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  const result = await run(process.execPath, [compiler, '-b'], { cwd: root })
  if (result.code !== 0) {
    throw new SetupError('MARTY_SETUP_COMPILE_FAILED', 'The TypeScript sources do not compile.', {
      output: result.output,
      remedy: 'Correct the errors that the compiler reports, then run: npx tsc -b'
    })
  }
  writeStamp(root, 'typescript', fingerprint)
  return 'compiled'
}

/**
 * @param {string} root
 * @returns {string[]} the folders of all referenced projects
 */
function findProjects (root) {
  const config = readTsConfig(path.join(root, 'tsconfig.json'))
  return (config?.references ?? []).map((/** @type {{ path: string }} */ reference) =>
    path.resolve(root, reference.path)
  )
}

/**
 * @param {string} project
 * @returns {boolean} also false when the tsconfig cannot be read: the compiler then runs and reports the problem
 */
function isBuilt (project) {
  const buildInfo = readTsConfig(path.join(project, 'tsconfig.json'))?.compilerOptions?.tsBuildInfoFile
  return buildInfo !== undefined && existsSync(path.resolve(project, buildInfo))
}

/**
 * @param {string} root
 * @param {readonly string[]} projects
 */
function fingerprintSources (root, projects) {
  const files = new Set(
    ['tsconfig.json', 'tsconfig.base.json', 'node_modules/typescript/package.json'].map(name =>
      path.join(root, name)
    )
  )
  for (const project of projects) collectSources(project, files)
  const hash = createHash('sha256')
  for (const file of [...files].sort()) {
    const found = statSync(file, { throwIfNoEntry: false })
    if (found !== undefined) hash.update(`${file}\0${found.size}\0${found.mtimeMs}\0`)
  }
  return hash.digest('hex')
}

/**
 * @param {string} folder
 * @param {Set<string>} files
 */
function collectSources (folder, files) {
  if (!existsSync(folder)) return
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const full = path.join(folder, entry.name)
    if (entry.isDirectory()) {
      if (!NOT_SOURCES.has(entry.name)) collectSources(full, files)
    } else if (SOURCE.test(entry.name)) {
      files.add(full)
    }
  }
}

/**
 * @param {string} file
 * @returns {Record<string, any> | undefined}
 */
function readTsConfig (file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch {
    return undefined
  }
}
