import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import t from 'tap'
import { installDependencies } from '../src/npm.mjs'
import { makeMiniature, writeJson } from './miniature.mjs'

t.test('a lockfile that is missing, broken or out of date is refused before npm runs', async (t) => {
  const root = makeMiniature(t, { installed: false })
  const lock = path.join(root, 'package-lock.json')
  const good = readFileSync(lock)

  writeJson(root, 'packages/one/package.json', { name: 'one', version: '1.0.0', devDependencies: { 'a-package': '^2.0.0' } })
  await t.rejects(installDependencies({ root }), {
    code: 'MARTY_SETUP_LOCKFILE_STALE',
    message: /packages\/one\/package\.json, devDependencies: requires a-package \^2\.0\.0, but the lockfile has none/,
    remedy: 'npm install'
  })
  writeFileSync(lock, '{ "packages": ')
  await t.rejects(installDependencies({ root }), { code: 'MARTY_SETUP_LOCKFILE_STALE', message: /not readable as JSON/ })
  rmSync(lock)
  await t.rejects(installDependencies({ root }), { code: 'MARTY_SETUP_LOCKFILE_STALE', message: /There is no .*package-lock\.json/ })
  t.notOk(existsSync(path.join(root, 'node_modules')))

  writeFileSync(lock, good)
  writeJson(root, 'packages/one/package.json', { name: 'one', version: '1.0.0', dependencies: { one: '1.0.0' } })
  t.equal(await installDependencies({ root }), 'installed', 'a dependency on another workspace needs no entry in the lockfile')
})

t.test('npm ci runs when something changed, and only then', async (t) => {
  const root = makeMiniature(t, { installed: false })
  const mark = path.join(root, 'node_modules', 'mark')
  const npmRan = () => !existsSync(mark)

  t.equal(await installDependencies({ root }), 'installed')
  t.ok(statSync(path.join(root, 'node_modules', 'one')).isDirectory(), 'the workspace is linked')

  writeFileSync(mark, 'npm ci removes this')
  t.equal(await installDependencies({ root }), 'unchanged')

  writeJson(root, 'packages/one/package.json', { name: 'one', version: '1.0.0', scripts: { hello: 'echo' } })
  t.equal(await installDependencies({ root }), 'already installed', 'a package.json changed, but the installed tree is still correct')
  t.equal(await installDependencies({ root }), 'unchanged')
  t.notOk(npmRan())

  const lock = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8'))
  lock.packages['packages/one'].version = '1.0.1'
  writeJson(root, 'package-lock.json', lock)
  writeJson(root, 'packages/one/package.json', { name: 'one', version: '1.0.1' })
  t.equal(await installDependencies({ root }), 'installed')
  t.ok(npmRan())

  rmSync(path.join(root, 'node_modules'), { recursive: true })
  t.equal(await installDependencies({ root }), 'installed', 'a removed tree is installed again, although the stamp is unchanged')
})

t.test('a tree that npm installed before the first setup is not changed', async (t) => {
  const root = makeMiniature(t)
  t.equal(await installDependencies({ root, env: { PATH: '' } }), 'already installed')
  t.ok(existsSync(path.join(root, 'node_modules', 'typescript')))
})

t.test('packages for other platforms may be missing, other packages may not', async (t) => {
  const root = makeMiniature(t)
  const lock = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8'))
  lock.packages['node_modules/elsewhere'] = { version: '1.0.0', optional: true, os: ['elsewhere'] }
  writeJson(root, 'package-lock.json', lock)
  t.equal(await installDependencies({ root, env: { PATH: '' } }), 'already installed')

  delete lock.packages['node_modules/elsewhere'].optional
  writeJson(root, 'package-lock.json', lock)
  await t.rejects(installDependencies({ root, env: { PATH: '' } }), { code: 'MARTY_SETUP_NPM_FAILED' }, 'npm is needed, but not on PATH')
})
