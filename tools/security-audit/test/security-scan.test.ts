import { createServer } from 'node:http'
import { copyFileSync, chmodSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { folderOf, link, run, track, type Ended } from './planted.js'

const root = resolve(import.meta.dirname, '../../..')
const script = fileURLToPath(new URL('../../security-scan.sh', import.meta.url))
const evaluate = 'ev' + 'al'
const lock = JSON.stringify({
  name: 'a',
  version: '1.0.0',
  lockfileVersion: 3,
  packages: {
    '': { name: 'a', version: '1.0.0', dependencies: { leaky: '1.0.0' } },
    'node_modules/leaky': { version: '1.0.0' }
  }
})
const manifest = JSON.stringify({ name: 'a', version: '1.0.0', dependencies: { leaky: '1.0.0' } })
const policy = `version: 1
resources:
  report: { description: Reports, actions: [read] }
roles:
  reader: { description: Reads, allow: ['report:read'] }
environments:
  development: {}
`
const advisory = {
  id: 1,
  url: 'https://a.example',
  title: 'It leaks',
  severity: 'high',
  vulnerable_versions: '<2.0.0',
  cwe: [],
  cvss: { score: 7 }
}

t.test('a wrong command line', async t => {
  t.match(await run(script, ['--strcit']), {
    code: 2,
    out: '',
    err: /no option "--strcit"[\s\S]*did you mean "--strict"/
  })
  t.match(await run(script, ['--help']), { code: 0, out: /usage: [\s\S]*Exit codes/, err: '' })
})

t.test('nothing is found: 0, from any folder', async t => {
  const { code, out, err } = await scan(t, {}, { answer: {} })
  t.equal(err, '')
  t.equal(code, 0)
  t.match(
    out,
    /^SCANNER +FINDINGS +RAN\nnpm audit +0 +ran\nmarty-security-audit +0 +ran\nmarty policy check +0 +ran\n$/
  )
})

t.test('what a scanner finds: 1, and it is named', async t => {
  t.match(await scan(t, {}, { answer: { leaky: [advisory] } }), {
    code: 1,
    out: /npm audit +1 +ran\n[\s\S]*\nnpm audit: high: leaky\n/
  })
  t.match(await scan(t, { 'a.js': `${evaluate}(a)` }, { answer: {} }), {
    code: 1,
    out: /marty-security-audit +1 +ran\n[\s\S]*\nmarty-security-audit: high: a\.js:1:1: eval: /
  })
  t.match(
    await scan(t, { 'policies/rbac_policies.yaml': policy.replace('report:read', 'report:raed') }, { answer: {} }),
    {
      code: 1,
      out: /marty policy check +1 +ran\n[\s\S]*\nmarty policy check: policies\/rbac_policies\.yaml:5:41: .*raed/
    }
  )
})

t.test('a registry that does not answer is not clean', async t => {
  for (const answer of [null, 'refused'] as const) {
    const { code, out } = await scan(t, {}, { answer })
    t.equal(code, 0)
    t.match(out, /npm audit +- +not run \(the registry did not answer: /)
    t.match(await scan(t, {}, { answer, args: ['--strict'] }), { code: 3, out })
  }
})

t.test('what is not compiled, or not there, is not clean; a finding counts for more', async t => {
  const bare = { answer: {}, linked: false, args: ['--strict'] }
  t.match(await scan(t, {}, bare), {
    code: 3,
    out: /marty-security-audit +- +not run \(not compiled; run "npm run build"\)\nmarty policy check +- +not run \(not compiled/
  })
  t.match(await scan(t, {}, { ...bare, answer: { leaky: [advisory] } }), { code: 1 })
  t.match(await scan(t, {}, { ...bare, without: ['package-lock.json', 'policies/rbac_policies.yaml'] }), {
    code: 3,
    out: /npm audit +- +not run \(there is no package-lock[\s\S]*policy check +- +not run \(there is no /
  })
})

t.test('a part that could not run is told', async t => {
  const { code, out } = await scan(
    t,
    { Dockerfile: 'ARG IMAGE\nFROM $IMAGE\nUSER node\n' },
    { answer: {}, args: ['--strict'] }
  )
  t.equal(code, 3)
  t.match(out, /marty-security-audit +0 +ran in part \(not run: docker-latest for Dockerfile: /)
})

interface Setting {
  /** The registry's advisories, `refused` when it refuses to tell, null when nobody listens. */
  readonly answer: Readonly<Record<string, readonly unknown[]>> | 'refused' | null
  readonly args?: readonly string[]
  readonly linked?: boolean
  readonly without?: readonly string[]
}

async function scan (
  t: Parameters<typeof folderOf>[0],
  files: Readonly<Record<string, string>>,
  { answer, args = [], linked = true, without = [] }: Setting
): Promise<Ended> {
  const all = {
    'package.json': manifest,
    'package-lock.json': lock,
    'policies/rbac_policies.yaml': policy,
    '.gitignore': 'dist\n',
    ...files
  }
  const folder = folderOf(t, Object.fromEntries(Object.entries(all).filter(([name]) => !without.includes(name))), {
    git: false
  })
  mkdirSync(join(folder, 'tools'))
  copyFileSync(script, join(folder, 'tools/security-scan.sh'))
  chmodSync(join(folder, 'tools/security-scan.sh'), 0o755)
  if (linked) {
    link(join(root, 'tools/security-audit/dist'), join(folder, 'tools/security-audit/dist'))
    link(join(root, 'packages/cli/dist'), join(folder, 'packages/cli/dist'))
  }
  track(folder)
  const registry = await listen(answer)
  try {
    return await run(join(folder, 'tools/security-scan.sh'), args, {
      cwd: tmpdir(),
      env: {
        ...process.env,
        npm_config_registry: registry.url,
        npm_config_cache: join(folder, '.git/npm-cache'),
        npm_config_update_notifier: 'false'
      }
    })
  } finally {
    registry.close()
  }
}

/** A registry that knows advisories and nothing else; real ones cannot be made to have or to lack some. */
async function listen (answer: Setting['answer']): Promise<{ readonly url: string; close: () => void }> {
  const server = createServer((request, response) => {
    request.resume().on('end', () => {
      const known = request.method === 'POST' && answer !== 'refused'
      const refusal = request.method === 'POST' ? 405 : 404
      response
        .writeHead(known ? 200 : refusal, { 'content-type': 'application/json' })
        .end(known ? JSON.stringify(answer) : '{}')
    })
  })
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const close = (): void => {
    server.close()
    server.closeAllConnections()
  }
  if (answer === null) close()
  return { url: `http://127.0.0.1:${address.port}/`, close }
}
