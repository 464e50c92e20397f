import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { problemServerOptions, security } from '@marty/security'
import Fastify from 'fastify'

const file = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url))
const app = Fastify({ ...problemServerOptions, logger: { level: 'warn' } })
await app.register(security, {
  environment: 'development',
  auth: { issuer: 'quickstart', audience: 'quickstart', keys: { signing: { kid: 'first', algorithm: 'HS256', secret: randomBytes(32) } } },
  rbac: { policyFile: file('policy.yaml'), policyTests: file('policy.test.yaml') },
  limits: { rules: { reports: { limit: 5, windowMs: 60_000, by: 'principal' } } },
  headers: {},
  audit: { sink: 'none', product: { name: 'quickstart', version: '1.0.0' } }
})

app.get('/status', { config: { security: { public: true } } }, async () => ({ status: 'up' }))
app.get('/me', { config: { security: { authenticate: true } } }, async ({ principal }) => ({ id: principal.id, roles: principal.roles }))
app.get('/reports', { config: { security: { permission: 'report:read', limits: ['reports'] } } }, async () => ['March', 'April'])
app.post('/reports', { config: { security: { permission: 'report:write' } } }, async () => ({ status: 'written' }))

const url = await app.listen({ port: Number(process.argv[2] ?? 3000) })
const { token } = app.auth.tokens.issue({ subject: 'you', role: 'reader' })
process.stdout.write(`Try: curl -i -H 'Authorization: Bearer ${token}' ${url}/reports\n`)
