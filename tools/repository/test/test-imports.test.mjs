import { existsSync, readdirSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import t from 'tap'
import { read, root } from './files.mjs'

/** Every workspace that has tests. */
const workspaces = ['packages', 'examples', 'tools']
  .flatMap(group => readdirSync(`${root}/${group}`).map(name => `${group}/${name}`))
  .filter(workspace => existsSync(`${root}/${workspace}/test`))

t.test('tests import other packages by name only; helpers that several packages need are in @marty/testing', async t => {
  for (const workspace of workspaces) {
    for (const file of testFiles(workspace)) {
      for (const target of imports(read(file)).filter(target => target.startsWith('.'))) {
        const reached = relative(root, resolve(root, dirname(file), target))
        t.ok(reached.startsWith(`${workspace}/`), `${file} imports ${target}`)
      }
    }
  }
})

t.test('a workspace whose tests use @marty/testing declares it, for development only', async t => {
  for (const workspace of workspaces.filter(workspace => existsSync(`${root}/${workspace}/package.json`))) {
    const { dependencies = {}, devDependencies = {} } = JSON.parse(read(`${workspace}/package.json`))
    const used = testFiles(workspace).some(file => imports(read(file)).some(target => /^@marty\/testing(\/|$)/.test(target)))
    t.equal('@marty/testing' in devDependencies, used, workspace)
    t.notOk('@marty/testing' in dependencies, workspace)
  }
})

function testFiles (workspace) {
  return readdirSync(`${root}/${workspace}/test`, { recursive: true })
    .filter(name => /\.(ts|mjs)$/.test(name) && !name.includes('node_modules'))
    .map(name => `${workspace}/test/${name}`)
}

function imports (text) {
  return [...text.matchAll(/^(?:import|export)\b[^'"]*?(?:\bfrom|^import)\s+['"]([^'"]+)['"]/gm)].map(match => match[1])
}
