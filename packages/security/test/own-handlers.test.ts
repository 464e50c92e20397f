import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerOptions
} from 'fastify'
import t, { type Test } from 'tap'
import { defineError, useGuard } from '@marty/core'
import { rateLimit } from '@marty/rate-limit'
import { security, type SecurityOptions } from '@marty/security'
import { optionsFor } from './service.js'

const Broken = defineError({ name: 'Broken', code: 'MARTY_TEST_BROKEN', statusCode: 503, message: 'not now' })

interface Own {
  readonly before?: (app: FastifyInstance) => void
  readonly after?: (app: FastifyInstance) => void
  readonly options?: Partial<SecurityOptions>
  readonly fastify?: FastifyServerOptions
}

async function service (t: Test, { before, after, options, fastify }: Own = {}): Promise<FastifyInstance> {
  const app = Fastify({ ...fastify }) as unknown as FastifyInstance
  t.teardown(async () => { await app.close() })
  before?.(app)
  await app.register(security, { ...optionsFor(''), audit: false, ...options } as SecurityOptions)
  app.get('/mine', { config: { security: { permission: 'report:read' } } }, async () => 'mine')
  app.get('/limited', { config: { security: { authenticate: true, limits: ['few'] } } }, async () => 'ok')
  app.get('/bug', { config: { security: { public: true } } }, async () => { throw new Error('bug') })
  app.get('/unavailable', { config: { security: { public: true } } }, async () => {
    throw new Broken({ headers: { 'retry-after': '9' } })
  })
  app.get('/lost', { config: { security: { public: true } } }, async (_request, reply) => {
    reply.callNotFound()
    return await reply
  })
  after?.(app)
  await app.ready()
  return app
}

const page = (app: FastifyInstance): void => {
  app.setNotFoundHandler(async (_request, reply) => await reply.type('text/html').send('<p>app</p>'))
}

t.test('what is not found is a problem document where the application says nothing', async t => {
  const app = await service(t)
  for (const url of ['/nothing', '/lost', '/nothing?token=secret']) {
    const answer = await app.inject(url)
    t.equal(answer.statusCode, 404)
    t.match(answer.headers, { 'content-type': /^application\/problem\+json/, 'content-security-policy': /none/ })
    t.match(answer.json(), { code: 'MARTY_CORE_NOT_FOUND', status: 404 })
    t.notMatch(answer.body, 'secret')
  }
  t.equal(
    (await app.inject({ method: 'POST', url: '/nothing', payload: { a: 1 } })).json<{ code: string }>().code,
    'MARTY_CORE_NOT_FOUND'
  )
  const head = await app.inject({ method: 'HEAD', url: '/nothing' })
  t.equal(head.statusCode, 404)
  t.equal(head.body, '')
})

t.test("an application's not-found handler works, set before or after, also for a single-page application", async t => {
  for (const [when, own] of [
    ['before', { before: page }],
    ['after', { after: page }]
  ] as const) {
    const app = await service(t, own)
    for (const url of ['/cameras/7', '/lost']) {
      const answer = await app.inject(url)
      t.equal(answer.body, '<p>app</p>', `${when} ${url}`)
      t.match(answer.headers, { 'content-security-policy': /none/, 'content-type': 'text/html' })
    }
    t.equal((await app.inject('/mine')).statusCode, 401, 'what is guarded stays so')
    t.match(
      app.security.routes().find(({ name }) => name === '404'),
      { rule: { public: true } },
      'it is declared public'
    )
  }
})

t.test('its own hooks run, and an answer that comes late or fails is an answer', async t => {
  const app = await service(t, {
    after: app => {
      app.setNotFoundHandler(
        {
          preHandler: async (request: FastifyRequest, reply: FastifyReply) => {
            if (request.url === '/early') await reply.send('early')
          }
        },
        async request => {
          await new Promise(resolve => {
            setImmediate(resolve)
          })
          if (request.url === '/fails') throw new Error('bug')
          return 'late'
        }
      )
    }
  })
  t.equal((await app.inject('/early')).body, 'early')
  t.equal((await app.inject('/late')).body, 'late')
  t.match((await app.inject('/fails')).json(), { status: 500, code: 'MARTY_CORE_INTERNAL' })
})

t.test('a handler of a scope is for that scope', async t => {
  const app = await service(t, {
    after: app => {
      void app.register(async scope => {
        page(scope)
        scope.setErrorHandler(
          async (error: Error, _request, reply) => await reply.code(418).send(`scope: ${error.message}`)
        )
        scope.get('/mine', { config: { security: { authenticate: true } } }, async () => 'mine')
        scope.get('/bug', { config: { security: { public: true } } }, async () => { throw new Error('bug') })
      }, { prefix: '/ui' })
      void app.register(async scope => {
        scope.get('/plain', { config: { security: { public: true } } }, async () => 'plain')
      })
    }
  })
  t.equal((await app.inject('/ui/anything')).body, '<p>app</p>')
  t.equal((await app.inject('/anything')).json<{ code: string }>().code, 'MARTY_CORE_NOT_FOUND')
  t.equal((await app.inject('/ui/bug')).body, 'scope: bug')
  t.match((await app.inject('/bug')).json(), { code: 'MARTY_CORE_INTERNAL' })
  const refused = await app.inject('/ui/mine')
  t.match(refused, { statusCode: 418, headers: { 'www-authenticate': 'Bearer' } })
})

t.test('a handler of what is not found that a scope without a prefix sets, is for all of it', async t => {
  const app = await service(t, { after: app => { void app.register(async scope => { page(scope) }) } })
  t.equal((await app.inject('/anything')).body, '<p>app</p>')
})

const ownErrors = (app: FastifyInstance): void => {
  app.setErrorHandler(
    async (error: Error & { statusCode?: number; code?: string }, _request, reply) =>
      await reply.code(error.statusCode ?? 500).send({ own: error.code ?? 'bug' })
  )
}

t.test("an application's error handler responds, set before or after, and keeps the headers of the error", async t => {
  for (const [when, own] of [
    ['before', { before: ownErrors }],
    ['after', { after: ownErrors }]
  ] as const) {
    const app = await service(t, own)
    t.match((await app.inject('/bug')).json(), { own: 'bug' }, when)
    const refused = await app.inject('/mine')
    t.match(refused.json(), { own: 'MARTY_CORE_UNAUTHENTICATED' })
    t.match(refused, { statusCode: 401, headers: { 'www-authenticate': 'Bearer' } })
    t.match((await app.inject({ url: '/mine', headers: { authorization: 'Bearer a.b.c' } })).headers, {
      'www-authenticate': 'Bearer error="invalid_token"'
    })
    const headers = { authorization: `Bearer ${app.auth.tokens.issue({ subject: 'alice', role: 'reader' }).token}` }
    for (let n = 0; n < 2; n++) t.equal((await app.inject({ url: '/limited', headers })).statusCode, 200)
    t.match(await app.inject({ url: '/limited', headers }), { statusCode: 429, headers: { 'retry-after': /^\d+$/ } })
    t.match(
      await app.inject('/unavailable'),
      { statusCode: 503, headers: { 'retry-after': '9' } },
      'and of errors that handlers throw'
    )
  }
})

t.test('an error handler set before is not replaced where Fastify forbids to replace one', async t => {
  const app = await service(t, { before: ownErrors, fastify: { allowErrorHandlerOverride: false } })
  t.match((await app.inject('/mine')).json(), { own: 'MARTY_CORE_UNAUTHENTICATED' })
})

t.test('what an own error handler says wins, and one that throws does not harm', async t => {
  const app = await service(t, {
    after: app => {
      app.setErrorHandler(async (error: Error & { statusCode?: number }, request, reply) => {
        if (request.url === '/bug') throw new Error('and another')
        return await reply.code(error.statusCode ?? 500).header('www-authenticate', 'Own').send('own')
      })
    }
  })
  t.match((await app.inject('/mine')).headers, { 'www-authenticate': 'Own' })
  t.match((await app.inject('/bug')).json(), { status: 500, code: 'MARTY_CORE_INTERNAL' })
})

t.test('hooks for errors see refusals where the application asks for it', async t => {
  const seenIn = async (options: Partial<SecurityOptions>): Promise<{ seen: string[], bodies: unknown[] }> => {
    const seen: string[] = []
    const app = await service(t, {
      options,
      after: app => {
        app.addHook('onError', async (_request, _reply, error) => {
          seen.push((error as { code?: string }).code ?? 'bug')
        })
      }
    })
    const bodies = []
    for (const url of ['/mine', '/bug']) bodies.push((await app.inject(url)).json<Record<string, unknown>>())
    return { seen, bodies: bodies.map(body => ({ ...(body as object), request_id: '' })) }
  }
  const usual = await seenIn({})
  const fast = await seenIn({ refusals: 'fast' })
  const asked = await seenIn({ refusals: 'fastify' })
  t.strictSame(usual.seen, ['bug'], 'by default only what is a fault')
  t.strictSame(fast.seen, ['bug'])
  t.strictSame(asked.seen, ['MARTY_CORE_UNAUTHENTICATED', 'bug'])
  t.strictSame(asked.bodies, fast.bodies, 'the answer is the same')
})

t.test('the way of refusals is asked of the guard where a plugin is used alone, and said once', async t => {
  const seenWith = async (refusals?: 'fast' | 'fastify'): Promise<number> => {
    const app = Fastify() as unknown as FastifyInstance
    t.teardown(async () => { await app.close() })
    if (refusals !== undefined) useGuard(app, { refusals })
    let seen = 0
    app.addHook('onError', async () => { seen++ })
    await app.register(rateLimit, { rules: { few: { limit: 1, windowMs: 60_000, by: 'address' } } })
    app.get('/few', { config: { security: { public: true, limits: ['few'] } } }, async () => 'ok')
    t.equal((await app.inject('/few')).statusCode, 200)
    t.equal((await app.inject('/few')).statusCode, 429)
    return seen
  }
  t.equal(await seenWith(), 0)
  t.equal(await seenWith('fast'), 0)
  t.equal(await seenWith('fastify'), 1)

  await t.rejects(service(t, { options: { refusals: 'slow' as 'fast' } }), {
    code: 'MARTY_SECURITY_OPT_INVALID',
    message: /refusals/
  })
  await t.rejects(
    service(t, {
      before: app => {
        useGuard(app, { strict: true, refusals: 'fastify' })
      }
    }),
    { code: 'MARTY_SECURITY_OPT_INVALID', message: /refusals/ }
  )
})
