import { existsSync, readdirSync } from 'node:fs'
import t from 'tap'
import { read, root } from './files.mjs'

/** The subject of these tests is the sources: which module imports which. */
const ABOUT_SOURCES = ['packages/core/test/architecture.test.ts']

t.test('a test checks behaviour or compiled output: no test reads a source as text', async t => {
  const files = testFiles().filter(file => !ABOUT_SOURCES.includes(file))
  t.ok(files.length > 200)
  t.strictSame(files.filter(file => sourcePaths(read(file)).length > 0), [])
})

t.test('every way to name a source file is found, and imports are ignored', async t => {
  for (const code of [
    "readFileSync(new URL('../src/options.ts', import.meta.url))",
    'readFileSync(new URL(`../../src/engine.ts`, import.meta.url))',
    "join(root, 'packages/core/src/index.ts')",
    "join(root, 'src', 'index.ts')"
  ]) t.equal(sourcePaths(code).length, 1, code)
  for (const code of ["import { a } from '../src/a.mjs'", "export * from './src/a.js'", "const tag = '<img src=x>'"]) {
    t.strictSame(sourcePaths(code), [], code)
  }
})

t.test('every published package has compile-time tests of its public types, including wrong use', async t => {
  const published = readdirSync(`${root}/packages`).filter(name => !JSON.parse(read(`packages/${name}/package.json`)).private)
  t.ok(published.length >= 12)
  for (const name of published) {
    const file = `packages/${name}/test/types.test.ts`
    if (t.ok(existsSync(`${root}/${file}`), file)) t.match(read(file), '// @ts-expect-error', file)
  }
})

/** Without tools/setup, which runs from its sources because nothing is compiled yet when it starts. */
function testFiles () {
  return ['packages', 'examples', 'tools']
    .flatMap(group => readdirSync(`${root}/${group}`).map(name => `${group}/${name}/test`))
    .filter(folder => folder !== 'tools/setup/test' && folder !== 'tools/repository/test')
    .filter(folder => existsSync(`${root}/${folder}`))
    .flatMap(folder => readdirSync(`${root}/${folder}`, { recursive: true }).map(name => `${folder}/${name}`))
    .filter(file => /\.test\.(ts|mjs)$/.test(file) && !file.includes('node_modules'))
}

/** String literals that name a file or folder under `src`. */
function sourcePaths (text) {
  const withoutImports = text.replace(/^(?:import|export)\b[^'"]*['"][^'"]*['"]/gm, '')
  return [...withoutImports.matchAll(/(['"`])((?:[^'"`\n]*\/)?src(?:\/[^'"`\n]*)?)\1/g)]
    .map(match => match[2])
}
