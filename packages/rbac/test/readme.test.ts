import { execFile, execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { checkPolicy } from '@marty/rbac'
import { freePort, startRedis } from '@marty/testing'

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
const block = (language: string): string => readme.split(`\`\`\`${language}\n`)[1]?.split('```')[0] ?? ''

t.test('the quick start runs as printed', async t => {
  const file = fileURLToPath(new URL('readme-quick-start.mjs', import.meta.url))
  writeFileSync(file, block('js'))
  const output = execFileSync(process.execPath, [file], {
    cwd: fileURLToPath(new URL('../../..', import.meta.url)),
    encoding: 'utf8'
  })
  t.same(output.trimEnd().split('\n'), ['401', 'true', 'no role of the caller (viewer) is allowed snapshot:take'])
})

t.test('decisions by id are as printed', async t => {
  const file = fileURLToPath(new URL('readme-by-id.mjs', import.meta.url))
  writeFileSync(
    file,
    `import { loadPolicy } from '@marty/rbac'
const policy = await loadPolicy(${JSON.stringify(block('yaml'))}, 'README.md')
const principal = { id: 'ada', roles: Object.freeze(['viewer']) }
const resource = { owner: 'ada' }
${block('ts').replace('policy.decideId', 'console.log(policy.decideId').trimEnd()})
`
  )
  t.equal(execFileSync(process.execPath, [file], { encoding: 'utf8' }).trim(), 'true')
})

t.test('reloading is as printed', async t => {
  const server = await startRedis(await freePort())
  t.teardown(async () => {
    await server.stop()
  })
  const [status, redis] = readme
    .split('```js\n')
    .slice(2)
    .map(rest => rest.split('```')[0]!)
  const file = fileURLToPath(new URL('readme-reload.mjs', import.meta.url))
  writeFileSync(
    file,
    `import Fastify from 'fastify'
import { publishPolicy, rbac } from '@marty/rbac'
import { openRedis } from '@marty/redis'
import { readFileSync } from 'node:fs'
const [policyFile, environment, url, file] = ['policies/rbac_policies.yaml', 'production', 'redis://127.0.0.1:${server.port}', 'rbac.yaml']
const text = readFileSync(policyFile, 'utf8') + '# newer\\n'
const app = Fastify()
${redis}
while (app.rbac.status.generation < 2) await new Promise(resolve => setTimeout(resolve, 10))
${status}
console.log(generation, sha256.length, stale, problems.length, loadedAt.endsWith('Z'))
await app.close()
await Promise.all([redis.close(), subscription.close()])
`
  )
  const { stdout } = await promisify(execFile)(process.execPath, [file], {
    cwd: fileURLToPath(new URL('../../..', import.meta.url))
  })
  t.equal(stdout, '2 64 false 0 true\n')
})

t.test('loaders and hooks are as printed', async t => {
  const file = fileURLToPath(new URL('readme-routes.mjs', import.meta.url))
  const blocks = readme
    .split('```javascript\n')
    .slice(1)
    .map(text => text.split('```')[0])
  t.equal(blocks.length, 2)
  writeFileSync(
    file,
    `import Fastify from 'fastify'
import { ANONYMOUS, useGuard } from '@marty/core'
import rbac from '@marty/rbac'
const app = Fastify()
useGuard(app).addAuthenticator({
  method: 'jwt',
  find: () => 'x',
  accepts: () => true,
  authenticate: () => ({ ...ANONYMOUS, id: 'ada', kind: 'user', roles: ['operator'] })
})
await app.register(rbac, { environment: 'dev', policy: JSON.stringify({
  version: 1,
  resources: { doc: { actions: ['read', 'edit'], attributes: { owner: 'text' } } },
  roles: { auditor: {}, operator: { allow: ['doc:read', { permission: 'doc:edit', when: 'resource.owner == principal.id' }] } },
  environments: { dev: {} }
}) })
const docs = new Map([['1', { owner: 'ada' }], ['2', { owner: 'bob' }]])
const handler = async () => 'done'
${blocks.join('')}
const statuses = []
for (const [method, url] of [['PUT', '/docs/1'], ['PUT', '/docs/2'], ['PUT', '/docs/3'], ['GET', '/report']]) {
  statuses.push((await app.inject({ method, url })).statusCode)
}
console.log(statuses.join(' '))
`
  )
  t.equal(execFileSync(process.execPath, [file], { encoding: 'utf8' }).trim(), '200 403 403 200')
})

t.test('a filter becomes a WHERE clause with parameters, as printed', async t => {
  const file = fileURLToPath(new URL('readme-filter.mjs', import.meta.url))
  writeFileSync(
    file,
    `import Fastify from 'fastify'
import rbac from '@marty/rbac'
${block('mjs')}
const app = Fastify()
const when = 'resource.owner == principal.id or not (resource.class in ["secret"] or resource.owner != "bob")'
await app.register(rbac, { environment: 'dev', policy: JSON.stringify({
  version: 1,
  resources: { doc: { actions: ['read'], attributes: { owner: 'text', class: 'text' } } },
  roles: { reader: { allow: [{ permission: 'doc:read', when }] } },
  environments: { dev: {} }
}) })
const values = []
console.log(toSql(app.rbac.filter({ roles: ['reader'], id: "x' OR 1=1" }, 'doc:read').where, values), JSON.stringify(values))
`
  )
  t.equal(
    execFileSync(process.execPath, [file], { encoding: 'utf8' }).trim(),
    '(owner = $1 OR ((class IS NOT NULL AND class <> ALL($2)) AND owner = $3)) ["x\' OR 1=1",["secret"],"bob"]'
  )
})

t.test('the policy in it is sound', async t => {
  t.same(checkPolicy(block('yaml'), 'README.md').problems, [])
})
