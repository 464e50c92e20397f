import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify'
import { execFile } from 'node:child_process'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { ANONYMOUS, CredentialInvalid, defineError, problemErrorHandler, useGuard } from '@marty/core'
import { headers, type HeadersOptions } from '@marty/headers'

const Limited = defineError({ name: 'Limited', code: 'TEST_LIMITED', statusCode: 429, message: 'slow down' })

/** A strict application whose guard was registered first, as in a whole service: it refuses before our hooks run. */
async function build (t: Test, options: Partial<HeadersOptions> = {}): Promise<FastifyInstance> {
  const app = Fastify({ trustProxy: '127.0.0.1' })
  app.setErrorHandler(problemErrorHandler)
  const guard = useGuard(app, { strict: true })
  guard.addAuthenticator({
    method: 'jwt',
    find: ({ headers }) => headers.authorization ?? headers.cookie ?? null,
    accepts: () => true,
    authenticate: token => {
      if (token === 'wrong') throw new CredentialInvalid()
      return { ...ANONYMOUS, id: 'alice', kind: 'user', authenticatedBy: 'jwt' }
    }
  })
  guard.addCheck({
    name: 'limiter',
    stage: 'throttle',
    keys: [],
    compile: ({ name }) => name === 'GET /limited' ? () => { throw new Limited() } : null
  })
  await app.register(headers, { environment: 'production', ...options })
  const open = (): { security: { public: true } } => ({ security: { public: true } })
  app.get('/public', { config: open() }, async () => 'ok')
  app.get('/limited', { config: open() }, async () => 'ok')
  app.get('/broken', { config: open() }, async () => { throw new Error('bug') })
  app.get('/mine', { config: { security: { authenticate: true } } }, async () => 'mine')
  app.get('/kept', { config: { security: { authenticate: true } } }, async (request, reply) => {
    return reply.header('cache-control', 'private, max-age=60').send('kept')
  })
  app.post('/echo', { config: open() }, async request => request.body)
  app.get('/raw', { config: open() }, (request, reply) => {
    reply.hijack()
    reply.raw.end('raw')
  })
  t.teardown(() => app.close())
  return app
}

const EXPECTED = {
  'content-security-policy': "default-src 'none';base-uri 'none';form-action 'none';frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': /^[a-z-]+=\(\)(, [a-z-]+=\(\))*$/
}

t.test('every response has all headers: 200, 401, 404, 429, 500, HEAD, malformed JSON, a hijacked reply', async t => {
  const app = await build(t)
  const cases = [
    ['GET', '/public', 200],
    ['HEAD', '/public', 200],
    ['POST', '/public', 404],
    ['GET', '/nothing', 404],
    ['GET', '/limited', 429],
    ['GET', '/broken', 500],
    ['GET', '/mine', 401],
    ['GET', '/raw', 200]
  ] as const
  for (const [method, url, status] of cases) {
    const answer = await app.inject({ method, url })
    t.equal(answer.statusCode, status, `${method} ${url}`)
    t.match(answer.headers, EXPECTED, `${method} ${url}`)
    t.not(answer.headers['x-xss-protection'], '1; mode=block')
    t.notOk('x-powered-by' in answer.headers)
  }
  const malformed = await app.inject({
    method: 'POST', url: '/echo', headers: { 'content-type': 'application/json' }, payload: '{'
  })
  t.equal(malformed.statusCode, 400)
  t.match(malformed.headers, EXPECTED)
})

t.test('a refusal over a real socket has all headers, each once', async t => {
  const app = await build(t)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    let text = ''
    socket.on('data', chunk => { text += String(chunk) })
    socket.on('end', () => { resolve(text) })
    socket.on('error', reject)
    socket.write('GET /limited HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  })
  t.match(answer, /^HTTP\/1\.1 429 /)
  t.match(answer, /content-security-policy: default-src 'none'/)
  t.equal(answer.match(/content-security-policy:/g)?.length, 1)
})

t.test('HSTS: never over http, never outside production; two years with subdomains over https', async t => {
  const https = { 'x-forwarded-proto': 'https' }
  for (const environment of ['development', 'testing', 'staging'] as const) {
    const app = await build(t, { environment })
    t.notOk('strict-transport-security' in (await app.inject({ url: '/public', headers: https })).headers, environment)
  }
  const app = await build(t)
  for (const url of ['/public', '/limited', '/nothing']) {
    const plain = (await app.inject(url)).headers
    t.notOk('strict-transport-security' in plain)
    t.notMatch(plain['content-security-policy'], /upgrade-insecure-requests/)
    const secure = (await app.inject({ url, headers: https })).headers
    t.equal(secure['strict-transport-security'], 'max-age=63072000; includeSubDomains')
    t.match(secure['content-security-policy'], /upgrade-insecure-requests/)
  }
  const untrusted = await app.inject({ url: '/public', headers: https, remoteAddress: '203.0.113.5' })
  t.notOk('strict-transport-security' in untrusted.headers, 'a client cannot claim https')
  const preload = await build(t, { hsts: { maxAgeSeconds: 70_000_000, preload: true } })
  const preloaded = (await preload.inject({ url: '/public', headers: https })).headers
  t.equal(preloaded['strict-transport-security'], 'max-age=70000000; includeSubDomains; preload')
  const off = await build(t, { hsts: false })
  t.notOk('strict-transport-security' in (await off.inject({ url: '/public', headers: https })).headers)
})

t.test('responses to an authenticated request are not stored, unless the route says so', async t => {
  const app = await build(t)
  const cache = async (url: string, headers: Record<string, string> = {}): Promise<unknown> => {
    return (await app.inject({ url, headers })).headers['cache-control']
  }
  t.equal(await cache('/mine', { authorization: 'alice' }), 'no-store')
  t.equal(await cache('/mine', { cookie: 'alice' }), 'no-store')
  t.equal(await cache('/mine', { authorization: 'wrong' }), 'no-store')
  t.equal(await cache('/kept', { authorization: 'alice' }), 'private, max-age=60')
  t.equal(await cache('/public'), undefined)
})

t.test('a route can override the policy; the others keep theirs', async t => {
  const app = await build(t)
  app.get('/', {
    config: {
      security: { public: true },
      headers: {
        csp: {
          'default-src': ["'self'"],
          'media-src': ["'self'", 'blob:'],
          'connect-src': ["'self'", 'ws://media.example:8889'],
          'frame-ancestors': ["'self'"],
          'form-action': null
        },
        permissions: { fullscreen: ['self', 'https://a.example'], autoplay: ['self'] }
      }
    }
  }, async () => 'page')
  for (const method of ['GET', 'HEAD'] as const) {
    const page = (await app.inject({ method, url: '/' })).headers
    t.equal(page['content-security-policy'], [
      "default-src 'self'", "base-uri 'none'", "frame-ancestors 'self'",
      "media-src 'self' blob:", "connect-src 'self' ws://media.example:8889"
    ].join(';'))
    t.match(page['permissions-policy'], 'fullscreen=(self "https://a.example")')
    t.match(page['permissions-policy'], 'autoplay=(self)')
    t.match(page['permissions-policy'], 'camera=()')
    t.equal(page['x-frame-options'], 'SAMEORIGIN')
  }
  t.match((await app.inject('/public')).headers, EXPECTED)
})

t.test("api: false starts from a policy for pages, and the plugin's own directives apply everywhere", async t => {
  const csp = { 'img-src': ["'self'", 'blob:'], 'frame-ancestors': ['https://portal.example'] }
  const app = await build(t, { api: false, csp })
  const answer = (await app.inject('/nothing')).headers
  t.equal(answer['content-security-policy'], [
    "default-src 'self'", "base-uri 'none'", "form-action 'self'", 'frame-ancestors https://portal.example',
    "img-src 'self' blob:", "object-src 'none'", "script-src-attr 'none'"
  ].join(';'))
  t.notOk('x-frame-options' in answer, 'X-Frame-Options cannot express this policy')
})

t.test('headers that have no effect on data are sent to pages only', async t => {
  const pageOnly = {
    'x-xss-protection': '0',
    'x-dns-prefetch-control': 'off',
    'x-download-options': 'noopen',
    'x-permitted-cross-domain-policies': 'none'
  }
  const [data, page] = [await build(t), await build(t, { api: false })]
  t.match((await page.inject('/public')).headers, pageOnly)
  const sent = (await data.inject('/public')).headers
  t.strictSame(Object.keys(pageOnly).filter(name => name in sent), [])
})

t.test('the `helmet` option of a route replaces our options one by one; its refusals have all headers', async t => {
  const app = await build(t)
  const config = { security: { public: true } } as const
  const policy = { useDefaults: false, directives: { 'default-src': ["'self'"] } }
  const xFrameOptions = { action: 'sameorigin' } as const
  app.get('/page', { config, helmet: { contentSecurityPolicy: policy, xFrameOptions } }, async () => 'page')
  app.get('/open', { config, helmet: { contentSecurityPolicy: false } }, async () => 'open')
  app.get('/none', { config, helmet: false }, async () => 'none')
  app.get('/fails', { config, helmet: { xFrameOptions } }, async () => { throw new Error('bug') })
  app.get('/refused', { config: { security: { authenticate: true } }, helmet: false }, async () => 'secret')
  app.get('/after', { config }, async () => 'after')

  for (const method of ['GET', 'HEAD'] as const) {
    const page = (await app.inject({ method, url: '/page' })).headers
    t.match(page, { ...EXPECTED, 'content-security-policy': "default-src 'self'", 'x-frame-options': 'SAMEORIGIN' })
  }
  const { 'content-security-policy': csp, ...others } = EXPECTED
  const open = (await app.inject('/open')).headers
  t.match(open, others)
  t.notOk('content-security-policy' in open)
  const none = (await app.inject('/none')).headers
  t.match(none, { 'permissions-policy': EXPECTED['permissions-policy'] })
  for (const name of Object.keys(others)) t.equal(name in none, name === 'permissions-policy', name)
  t.match((await app.inject('/fails')).headers, { ...EXPECTED, 'x-frame-options': 'SAMEORIGIN' })
  const refused = await app.inject('/refused')
  t.equal(refused.statusCode, 401)
  t.match(refused.headers, EXPECTED)
  t.match((await app.inject('/after')).headers, EXPECTED)
})

t.test('the `helmet` option of a route keeps the headers for https, and can add nonces', async t => {
  const app = await build(t)
  const helmet = { enableCSPNonces: true }
  app.get('/page', { config: { security: { public: true } }, helmet }, async (request, reply) => reply.cspNonce)

  const headers = { 'x-forwarded-proto': 'https' }
  const [first, second] = [await app.inject({ url: '/page', headers }), await app.inject({ url: '/page', headers })]
  const { script, style } = first.json()
  t.equal(first.headers['content-security-policy'], [
    'upgrade-insecure-requests', EXPECTED['content-security-policy'],
    `script-src 'nonce-${script}'`, `style-src 'nonce-${style}'`
  ].join(';'))
  t.equal(first.headers['strict-transport-security'], 'max-age=63072000; includeSubDomains')
  t.not(second.json().script, script)
})

t.test('other routes do not run the hooks of @fastify/helmet', async t => {
  const app = await build(t)
  app.get('/decorated', { config: { security: { public: true } } }, async (request, reply) => ({ helmet: reply.helmet }))
  t.same((await app.inject('/decorated')).json(), { helmet: null })
})

t.test('a header that a handler sets replaces ours', async t => {
  const app = await build(t)
  app.get('/own', { config: { security: { public: true } } }, async (request, reply) => {
    return reply.header('referrer-policy', 'same-origin').send('x')
  })
  t.equal((await app.inject('/own')).headers['referrer-policy'], 'same-origin')
})

t.test('an application without any security rule gets the headers too', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/before', async () => 'ok')
  await app.register(headers, { environment: 'development' })
  app.get('/after', async () => 'ok')
  for (const url of ['/before', '/after', '/nothing']) t.match((await app.inject(url)).headers, EXPECTED, url)
})

t.test('a handler sees, replaces, extends and removes the headers on the response itself, and so does http2', async t => {
  for (const http2 of [false, true]) {
    const app = Fastify({ http2: http2 as false, logger: false })
    t.teardown(() => app.close())
    await app.register(headers, { environment: 'production', cors: { origins: ['https://app.example'] } })
    app.get('/', async () => ({ ok: true }))
    app.get('/sees', async (_request, reply) => ({
      one: reply.getHeader('X-Frame-Options'),
      has: [reply.hasHeader('x-frame-options'), reply.raw.hasHeader('X-Frame-Options'), reply.raw.hasHeader('x-none')],
      all: reply.getHeaders()['x-frame-options'],
      names: reply.raw.getHeaderNames().includes('x-frame-options')
    }))
    app.get('/replaces', async (_request, reply) => {
      reply.raw.setHeader('X-Frame-Options', 'SAMEORIGIN')
      return await reply.header('Referrer-Policy', 'origin').send('text')
    })
    app.get('/removes', async (_request, reply) => {
      reply.raw.removeHeader('X-Frame-Options')
      return 'text'
    })
    app.get('/stream', async (_request, reply) => await reply.header('referrer-policy', 'origin').send(Readable.from(['a'])))
    app.get('/raw', (_request, reply) => {
      reply.hijack()
      reply.raw.writeHead(201, { 'Referrer-Policy': 'origin', Vary: 'Accept', 'Set-Cookie': ['a=1', 'b=2'] })
      reply.raw.end('raw')
    })
    app.get('/list', (_request, reply) => {
      reply.hijack()
      reply.raw.writeHead(202, ['Referrer-Policy', 'origin', 'X-Own', 'yes'] as never)
      reply.raw.end('raw')
    })
    const origin = await app.listen({ port: 0, host: '127.0.0.1' })
    const get = async (url: string): Promise<Answer> => await curl(origin + url, http2)
    const standard = { 'x-frame-options': 'DENY', 'referrer-policy': 'no-referrer', vary: 'Origin' }
    t.match(await get('/'), { status: 200, headers: { ...standard, 'content-type': 'application/json; charset=utf-8' } })
    const sees = { one: 'DENY', has: [true, true, false], all: 'DENY', names: true }
    t.match(await get('/sees'), { status: 200, headers: standard, body: JSON.stringify(sees) })
    t.match((await get('/replaces')).headers, { 'x-frame-options': 'SAMEORIGIN', 'referrer-policy': 'origin' })
    t.notMatch((await get('/removes')).headers, { 'x-frame-options': /./ })
    t.match((await get('/removes')).headers, { 'referrer-policy': 'no-referrer' })
    const stream = await get('/stream')
    t.match(stream, { status: 200, headers: { ...standard, 'referrer-policy': 'origin' }, body: 'a' })
    const raw = { ...standard, 'referrer-policy': 'origin', vary: 'Accept, Origin', 'set-cookie': 'b=2' }
    t.match(await get('/raw'), { status: 201, headers: raw, body: 'raw' })
    t.match(await get('/list'), { status: 202, headers: { ...standard, 'referrer-policy': 'origin', 'x-own': 'yes' } })
    t.match(await get('/none'), { status: 404, headers: standard })
  }
})

t.test('hooks and logs may read the headers after they were sent', async t => {
  for (const http2 of [false, true]) {
    const app = Fastify({ http2: http2 as false })
    t.teardown(() => app.close())
    await app.register(headers, { environment: 'production' })
    const seen: unknown[] = []
    const read = (reply: FastifyReply): void => {
      seen.push(reply.getHeaders()['x-frame-options'], reply.raw.getHeaderNames().includes('x-frame-options'))
      seen.push(reply.getHeader('x-frame-options'), reply.raw.hasHeader('x-frame-options'))
    }
    app.addHook('onResponse', async (_request, reply) => { read(reply) })
    app.get('/', async (_request, reply) => {
      reply.raw.once('finish', () => { read(reply) })
      return { ok: true }
    })
    const origin = await app.listen({ port: 0, host: '127.0.0.1' })
    t.match(await curl(`${origin}/`, http2), { status: 200, headers: { 'x-frame-options': 'DENY' } })
    await app.close()
    t.strictSame(seen, Array(2).fill(['DENY', true, 'DENY', true]).flat())
  }
})

t.test('nothing that others set is lost: wrapped methods, cookies in lists, a header named like a decided value', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async (_request, { raw }) => {
    const writeHead = raw.writeHead
    raw.writeHead = function (this: typeof raw, ...args: Parameters<typeof writeHead>) {
      this.setHeader('set-cookie', 'wrapped=1')
      return writeHead.apply(this, args)
    } as typeof writeHead
  })
  await app.register(headers, {
    environment: 'production',
    cors: { origins: ['https://app.example'], exposedHeaders: ['retry-after'] }
  })
  app.get('/', async () => ({ ok: true }))
  app.get('/list', (_request, reply) => {
    reply.hijack()
    const head = ['Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'Vary', 'Cookie', 'Vary', 'Accept', 'Retry-After', '7']
    reply.raw.writeHead(200, head as never)
    reply.raw.end('x')
  })
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  t.match((await curl(`${origin}/`, false)).headers, { 'set-cookie': 'wrapped=1', 'x-frame-options': 'DENY' })
  const { stdout } = await promisify(execFile)('curl', ['-s', '-i', '-H', 'Origin: https://app.example', `${origin}/list`])
  for (const line of ['set-cookie: a=1', 'set-cookie: b=2', 'vary: Cookie, Accept, Origin', 'retry-after: 7']) {
    t.match(stdout.toLowerCase(), `\r\n${line.toLowerCase()}\r\n`)
  }
  t.match(stdout.toLowerCase(), '\r\naccess-control-expose-headers: retry-after\r\n')
})

interface Answer { readonly status: number, readonly headers: Record<string, string>, readonly body: string }

/** The last value of each header, after a check that all but cookies are there once. */
async function curl (url: string, http2: boolean): Promise<Answer> {
  const version = http2 ? '--http2-prior-knowledge' : '--http1.1'
  const { stdout } = await promisify(execFile)('curl', ['-s', '-i', version, url])
  const [head = '', body = ''] = stdout.split('\r\n\r\n', 2)
  const [first = '', ...lines] = head.split('\r\n')
  const fields = lines.map(line => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)])
  const names = fields.map(([name]) => name).filter(name => name !== 'set-cookie')
  t.equal(new Set(names).size, names.length, `each header once: ${names.join(', ')}`)
  return { status: Number(first.split(' ')[1]), headers: Object.fromEntries(fields), body }
}
