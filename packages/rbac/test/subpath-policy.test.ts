import { loadedPackages } from '@marty/testing/loaded-packages'
import t from 'tap'
import { POLICY } from './policy-text.js'

const packagesOf = async (program: string): Promise<ReadonlySet<string>> =>
  new Set(await loadedPackages(`const POLICY = ${JSON.stringify(POLICY)}\n${program}`, import.meta.url))

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
