import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { refuses, runAsChild } from './run.js'

const folder = t.testdir({
  'app.js': `
import { randomBytes } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { security } from '@marty/security'
import Fastify from 'fastify'

const policy = \`version: 1
resources: { report: { actions: [read, write, sign] } }
roles:
  reader: { allow: ['report:read'] }
  writer:
    inherits: [reader]
    allow: ['report:write', { permission: 'report:sign', when: 'principal.kind == "user"' }]
environments: { development: {} }
\`
const options = {
  environment: 'development',
  auth: { issuer: 'me', audience: 'me', keys: { signing: { kid: '1', algorithm: 'HS256', secret: randomBytes(32) } } },
  rbac: { policy },
  limits: {
    rules: { calls: { limit: 9, windowMs: 1000, by: 'principal' }, few: { limit: 1, windowMs: 1000, by: 'principal' } },
    apply: { http: ['calls'] }
  },
  headers: {},
  audit: { sink: { file: join(mkdtempSync(join(tmpdir(), 'routes-')), 'audit.log'), mode: 'async' }, product: { name: 'x', version: '1' } }
}

export async function plugin (app, _options) {
  await app.register(security, options)
  app.get('/reports', { config: { security: { permission: 'report:read', limits: ['few'] } } }, async () => [])
  app.post('/reports/sign', { config: { security: { permission: 'report:sign', audit: 'all' } } }, async () => 'signed')
  app.get('/me', { config: { security: { authenticate: ['jwt'], limits: false } } }, async () => 'me')
  app.get('/page', {
    config: { security: { public: true }, headers: { csp: { 'default-src': ["'self'"] } } }
  }, async () => 'page')
}
plugin[Symbol.for('skip-override')] = true

export const app = Fastify()
await plugin(app)
export const make = async () => app
export default plugin
export const nothing = 7
`,
  'bare.js': "import Fastify from 'fastify'\nexport default Fastify()\n",
  'broken.js': "throw new Error('the database is not there')\n"
})
const file = join(folder, 'app.js')

t.test('every operation with who may call it, its roles, limits, audit and line', async t => {
  const { code, out, err } = await runAsChild(['routes', 'app.js'], { cwd: folder })
  t.equal(err, '')
  t.equal(code, 0)
  const lines = out.split('\n')
  t.match(lines[0], /^OPERATION +WHO +ROLES +LIMITS +AUDIT +DECLARED IN$/)
  const line = (name: string): string => lines.find(text => text.startsWith(`${name} `)) ?? `no line for ${name}`
  t.match(line('GET /reports'), /^GET \/reports +permission report:read +reader, writer +calls, few +denied +app\.js:\d+:7$/)
  t.match(line('POST /reports/sign'), /permission report:sign +writer \(if\) +calls +all /)
  t.match(line('GET /me'), /signed in by jwt +- +- +denied/)
  t.match(line('GET /page'), /anyone +- +calls +denied/)
  t.match(line('404'), /anyone/)
})

t.test('an instance, a function and a plugin are applications; --json and --markdown', async t => {
  for (const name of ['app', 'make', 'plugin']) {
    const { code, out } = await runAsChild(['routes', file, '--export', name, '--json'])
    t.equal(code, 0, name)
    t.match(JSON.parse(out).find((operation: { name: string }) => operation.name === 'GET /page'), {
      transport: 'http',
      rule: { public: true },
      who: 'anyone',
      headers: 'own',
      limits: ['calls'],
      audit: 'denied'
    })
  }
  const written = join(folder, 'routes.md')
  t.match(await runAsChild(['routes', file, '--markdown', '--out', written]), { code: 0, out: '' })
  const out = readFileSync(written, 'utf8')
  t.match(out, '| Operation | Who | Roles | Limits | Audit |\n| --- | --- | --- | --- | --- |\n')
  t.match(out, '| GET /reports | permission report:read | reader, writer | calls, few | denied |\n')
})

t.test('a wrong command line says what to do', async t => {
  await refuses(t, [
    [2, /routes needs MODULE/, ['routes']],
    [2, /nowhere\.js cannot be read: there is no such file/, ['routes', join(folder, 'nowhere.js')]],
    [2, /exports no application as "nothing": export an instance of Fastify/, ['routes', file, '--export', 'nothing']],
    [2, /does not register @marty\/security/, ['routes', join(folder, 'bare.js')]],
    [2, /--json and --markdown cannot be given together/, ['routes', file, '--json', '--markdown']]
  ])
  const broken = await runAsChild(['routes', join(folder, 'broken.js')])
  t.match(broken, { code: 1, err: /the database is not there\n +at .*broken\.js:1/ }, 'an error of the application itself')
})
