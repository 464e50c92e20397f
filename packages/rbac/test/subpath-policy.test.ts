import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { POLICY } from './policy-text.js'

const run = promisify(execFile)

/** Prints the URL of each module that is loaded; the hook itself runs in a thread of its own. */
const PRINT_LOADED = 'data:text/javascript,' + encodeURIComponent(`
  import { writeSync } from 'node:fs'
  export async function load (url, context, next) {
    writeSync(1, url + '\\n')
    return await next(url, context)
  }
`)

/** Returns the npm packages that a program loads. */
async function packagesOf (program: string): Promise<ReadonlySet<string>> {
  const script = `
    import { createRequire, register } from 'node:module'
    register(${JSON.stringify(PRINT_LOADED)})
    const POLICY = ${JSON.stringify(POLICY)}
    ${program}
    console.log(Object.keys(createRequire(import.meta.url).cache).join('\\n'))
  `
  const cwd = fileURLToPath(new URL('.', import.meta.url))
  // `env -i`, because the test runner loads packages into every child process by an environment variable.
  const command = ['-i', process.execPath, '--input-type=module', '--no-warnings', '-e', script]
  const { stdout } = await run('env', command, { cwd, maxBuffer: 2 ** 24 })
  const names = stdout.split('\n').map(file => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1])
  return new Set(names.filter(name => name !== undefined))
}

const SERVER_PACKAGES = ['fastify', 'fastify-plugin', 'ioredis']
/** Packages that make a start slow. */
const LARGE = ['ioredis', 'typebox', 'yaml']

t.test('@marty/rbac/policy decides without Fastify and Redis, and loads Casbin for that', async t => {
  const packages = await packagesOf(`
    const { loadPolicy } = await import('@marty/rbac/policy')
    const policy = await loadPolicy(POLICY, 'policy.yaml')
    if (!policy.decide(['viewer'], 'camera:view', 'production')) throw new Error('the viewer is denied')
  `)

  for (const name of [...SERVER_PACKAGES, ...LARGE]) t.notOk(packages.has(name), `${name} is not loaded`)
  t.ok(packages.has('casbin'), 'Casbin is loaded')
})

t.test('a policy is checked for mistakes without Casbin', async t => {
  const packages = await packagesOf(`
    const { checkPolicy } = await import('@marty/rbac/policy')
    if (checkPolicy(POLICY, 'policy.yaml').problems.length > 0) throw new Error('the policy has mistakes')
  `)

  for (const name of ['casbin', ...SERVER_PACKAGES]) t.notOk(packages.has(name), `${name} is not loaded`)
})

t.test('the whole package loads what the plugin needs, so the tests above can see it', async t => {
  const packages = await packagesOf("await import('@marty/rbac')")

  t.ok(packages.has('fastify-plugin'))
  for (const name of ['casbin', ...LARGE]) t.notOk(packages.has(name), `${name} is loaded when it is needed`)
})
