import { execFile, execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { checkPolicy } from '@marty/rbac'
import { freePort, startRedis } from '../../redis/dist-test/redis-server.js'

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
const block = (language: string): string => readme.split(`\`\`\`${language}\n`)[1]?.split('```')[0] ?? ''

t.test('the quick start runs as printed', async t => {
  const file = fileURLToPath(new URL('readme-quick-start.mjs', import.meta.url))
  writeFileSync(file, block('js'))
  const output = execFileSync(process.execPath, [file], { cwd: fileURLToPath(new URL('../../..', import.meta.url)), encoding: 'utf8' })
  t.same(output.trimEnd().split('\n'), ['401', 'true', 'no role of the caller (viewer) is allowed snapshot:take'])
})

t.test('decisions by id are as printed', async t => {
  const file = fileURLToPath(new URL('readme-by-id.mjs', import.meta.url))
  writeFileSync(file, `import { loadPolicy } from '@marty/rbac'
const policy = await loadPolicy(${JSON.stringify(block('yaml'))}, 'README.md')
const principal = { id: 'ada', roles: Object.freeze(['viewer']) }
const resource = { owner: 'ada' }
${block('ts').replace('policy.decideId', 'console.log(policy.decideId').trimEnd()})
`)
  t.equal(execFileSync(process.execPath, [file], { encoding: 'utf8' }).trim(), 'true')
})

t.test('reloading is as printed', async t => {
  const server = await startRedis(await freePort())
  t.teardown(async () => { await server.stop() })
  const [status, redis] = readme.split('```js\n').slice(2).map(rest => rest.split('```')[0]!)
  const file = fileURLToPath(new URL('readme-reload.mjs', import.meta.url))
  writeFileSync(file, `import Fastify from 'fastify'
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
`)
  const { stdout } = await promisify(execFile)(process.execPath, [file], { cwd: fileURLToPath(new URL('../../..', import.meta.url)) })
  t.equal(stdout, '2 64 false 0 true\n')
})

t.test('the policy in it is sound', async t => {
  t.same(checkPolicy(block('yaml'), 'README.md').problems, [])
})
