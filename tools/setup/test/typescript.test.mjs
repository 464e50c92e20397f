import { existsSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import t from 'tap'
import { compileTypeScript } from '../src/typescript.mjs'
import { makeMiniature } from './miniature.mjs'

t.test('sources that do not compile are compiled again each time, until they compile', async (t) => {
  const root = makeMiniature(t)
  const source = path.join(root, 'packages/one/src/index.ts')
  writeFileSync(source, 'export const one: number = "1"\n')
  for (const attempt of [1, 2]) {
    await t.rejects(compileTypeScript({ root }), { code: 'MARTY_SETUP_COMPILE_FAILED', output: /error TS2322/ }, `attempt ${attempt}`)
  }
  writeFileSync(source, 'export const one: number = 1\n')
  t.equal(await compileTypeScript({ root }), 'compiled')
})

t.test('compiles when something changed, and only then', async (t) => {
  const root = makeMiniature(t)
  const output = path.join(root, 'packages/one/dist/index.js')
  t.equal(await compileTypeScript({ root }), 'compiled')
  t.match(readFileSync(output, 'utf8'), 'one = 1')
  t.equal(await compileTypeScript({ root }), 'unchanged')

  writeFileSync(path.join(root, 'packages/one/src/two.ts'), 'export const two: number = 2\n')
  t.equal(await compileTypeScript({ root }), 'compiled')
  t.ok(existsSync(path.join(root, 'packages/one/dist/two.js')))

  const config = path.join(root, 'packages/one/tsconfig.json')
  utimesSync(config, new Date(), new Date(Date.now() + 5000))
  t.equal(await compileTypeScript({ root }), 'compiled', 'a change of a tsconfig counts')

  rmSync(path.join(root, 'packages/one/dist'), { recursive: true })
  t.equal(await compileTypeScript({ root }), 'compiled', 'a removed build is compiled again, although the stamp is unchanged')
  t.ok(existsSync(output))
  t.equal(await compileTypeScript({ root }), 'unchanged')
})
