import { randomBytes } from 'node:crypto'
import t from 'tap'
import Fastify, { type FastifyContextConfig } from 'fastify'
import {
  AccountLocked, auth, createMemoryApiKeyStore, type ApiKeyOptions, type ApiKeys, type Auth, type AuthOptions,
  type JwtKeyOptions, type SessionOptions, type TokenClaims
} from '@marty/auth'

// The compiler checks this file; running it shows only that the right uses work.

const signing: JwtKeyOptions = { kid: 'k', algorithm: 'HS256', secret: randomBytes(32) }
const apiKeys = { prefix: 'test', environment: 'dev', store: createMemoryApiKeyStore() }
const options: AuthOptions = { issuer: 'me', audience: 'me', keys: { signing } }

t.test('the options have types, and so have those of register', async t => {
  const more: AuthOptions = {
    ...options,
    accessTokenTtlSeconds: 60,
    sessions: { idleSeconds: 60, cookie: { sameSite: 'Lax' } },
    apiKeys: { ...apiKeys, pepper: randomBytes(32), hash: 'hmac-sha256' },
    refresh: { secret: randomBytes(32) },
    lockout: false,
    routes: { introspection: { authenticate: ['apiKey'] } }
  }

  // @ts-expect-error the audience is required
  const audience: AuthOptions = { issuer: 'me', keys: { signing } }
  // @ts-expect-error the unit is part of the name
  const unit: AuthOptions = { ...options, accessTokenTtl: 60 }
  // @ts-expect-error there is no such algorithm
  const none: JwtKeyOptions = { kid: 'k', algorithm: 'none', secret: '' }
  // @ts-expect-error a secret belongs to HS256
  const mixed: JwtKeyOptions = { kid: 'k', algorithm: 'ES256', secret: randomBytes(32) }
  // @ts-expect-error the pepper is required
  const pepper: ApiKeyOptions = apiKeys
  // @ts-expect-error a cookie for every site is not offered
  const cookie: SessionOptions = { cookie: { sameSite: 'None' } }
  t.equal([more, audience, unit, none, mixed, pepper, cookie].length, 7)
})

t.test('`fastify.auth` has types', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(auth, { ...options, logLevel: 'warn' })
  const services: Auth = app.auth
  const { token } = services.tokens.issue({ subject: 'ada', roles: ['reader'], claims: { plan: 'gold' } })
  const claims: TokenClaims = services.tokens.verify(token)
  t.equal(claims.sub, 'ada')

  // @ts-expect-error a token needs a subject
  t.throws(() => services.tokens.issue({ role: 'reader' }), { code: 'MARTY_AUTH_REQUEST_INVALID' })
  // @ts-expect-error API keys may be turned off, so they may be null
  const keys: ApiKeys = services.apiKeys
  t.equal(keys, null)
  // @ts-expect-error the services are not replaced
  t.throws(() => { services.tokens = app.auth.tokens }, TypeError)
})

t.test('a rule can require the same origin, but not waive it', async t => {
  const config: FastifyContextConfig = { security: { authenticate: ['session', 'mtls'], sameOrigin: true } }
  // @ts-expect-error leave it out instead
  const waived: FastifyContextConfig = { security: { authenticate: true, sameOrigin: false } }
  t.equal([config, waived].length, 2)
})

t.test('errors have literal codes', async t => {
  const { code }: { code: 'MARTY_AUTH_LOCKED' } = new AccountLocked('no')
  t.equal(code, 'MARTY_AUTH_LOCKED')
})
