import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import t from 'tap'
import Fastify, { type FastifyContextConfig } from 'fastify'
import { security, type Principal, type Security, type SecurityOptions, type SecurityRule } from '@marty/security'
import { POLICY } from './service.js'

// The compiler checks this file; running it shows only that the right uses work.

const options: SecurityOptions = {
  environment: 'development',
  auth: { issuer: 'me', audience: 'me', keys: { signing: { kid: 'k', algorithm: 'EdDSA', privateKey: privateKey() } } },
  rbac: { policy: POLICY },
  limits: { rules: { few: { limit: 2, windowMs: 60_000, by: 'principal' } } },
  headers: {},
  audit: { sink: 'none', product: { name: 'test', version: '1.0.0' } }
}

t.test('every part is configured, or turned off by name', async t => {
  const off: SecurityOptions = { ...options, limits: false, audit: false, refusals: 'fastify' }
  const { limits: _, ...withoutLimits } = options

  // @ts-expect-error a part cannot be left out
  const missing: SecurityOptions = withoutLimits
  // @ts-expect-error there is no default configuration of a part
  const on: SecurityOptions = { ...options, limits: true }
  // @ts-expect-error there is no such environment
  const environment: SecurityOptions = { ...options, environment: 'prod' }
  // @ts-expect-error there is no such way to answer refusals
  const refusals: SecurityOptions = { ...options, refusals: 'slow' }
  // @ts-expect-error options are read-only
  options.environment = 'development'
  t.equal([off, missing, on, environment, refusals].length, 5)
})

t.test('a rule has the members of all parts', async t => {
  const rule: SecurityRule = { permission: 'report:read', limits: ['few'], audit: 'all' }
  const config: FastifyContextConfig = { security: rule }

  // @ts-expect-error there is no such audit level
  const audit: SecurityRule = { ...rule, audit: 'some' }
  // @ts-expect-error limits are a list, or false
  const limits: SecurityRule = { ...rule, limits: 'few' }
  // @ts-expect-error a misspelt member
  const misspelt: SecurityRule = { premission: 'report:read' }
  t.equal([config, audit, limits, misspelt].length, 4)
})

t.test('what it adds to the application has types', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(security, { ...options, logLevel: 'warn' })
  app.get('/me', { config: { security: { authenticate: true } } }, async ({ principal }): Promise<Principal['id']> => principal.id)
  await app.ready()

  const added: Security = app.security
  t.equal(added.routes().some(({ name }) => name === 'GET /me'), true)
  const { token } = app.auth.tokens.issue({ subject: 'ada', role: 'reader' })
  t.equal((await app.inject({ url: '/me', headers: { authorization: `Bearer ${token}` } })).body, 'ada')
  // @ts-expect-error a token needs a subject
  t.throws(() => app.auth.tokens.issue({ role: 'reader' }), { code: 'MARTY_AUTH_REQUEST_INVALID' })
})

function privateKey (): KeyObject {
  return generateKeyPairSync('ed25519').privateKey
}
