import t, { type Test } from 'tap'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import Fastify, { type FastifyInstance } from 'fastify'
import { auth, createMemoryApiKeyStore, createMtlsAuthenticator, type AuthOptions } from '@marty/auth'
import { problemErrorHandler, useGuard } from '@marty/core'
import { until } from '@marty/testing'
import { createAuthority, type Certificate } from '@marty/testing/certificates'
import { bearer, PEPPER, TOKENS } from '@marty/testing/tokens'
import { build, REFUSAL } from './service.js'

const RECORDER = 'spiffe://prod/ns/cams/sa/recorder'
const CLIENT = 'extendedKeyUsage = clientAuth'
const MTLS = {
  allow: { [RECORDER]: { roles: ['recorder'], scopes: ['write'] }, 'spiffe://prod/ns/cams/sa/viewer': { roles: [] } }
}

const authority = createAuthority('Test CA')
const stranger = createAuthority('Test CA')
t.teardown(() => { authority.remove(); stranger.remove() })
const serverCertificate = authority.issue(['subjectAltName = DNS:localhost', 'extendedKeyUsage = serverAuth'])
const good = authority.issue([`subjectAltName = URI:${RECORDER}`, CLIENT])

async function serve (t: Test, options: Partial<AuthOptions> = {}): Promise<FastifyInstance> {
  const app = Fastify({
    // marty-security-audit-ignore tls-unverified -- a server: who has no good certificate is let in as nobody
    https: { ...serverCertificate, ca: authority.cert, requestCert: true, rejectUnauthorized: false }
  }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  useGuard(app, { strict: true })
  app.setErrorHandler(problemErrorHandler)
  await app.register(auth, {
    ...TOKENS,
    mtls: MTLS,
    apiKeys: { store: createMemoryApiKeyStore(), prefix: 'cam', environment: 'test', pepper: PEPPER, bcryptCost: 8 },
    ...options
  })
  app.get('/who', { config: { security: { authenticate: true } } }, async request => request.principal)
  app.get('/services', { config: { security: { authenticate: ['mtls'] } } }, async request => request.principal.id)
  app.get('/people', { config: { security: { authenticate: ['jwt'] } } }, async request => request.principal.id)
  await app.listen({ host: '127.0.0.1', port: 0 })
  return app
}

interface Answer {
  readonly status: number
  readonly challenge: string | undefined
  readonly body: string
  readonly socket: TLSSocket
  readonly resumed: boolean
}

async function ask (
  app: FastifyInstance,
  agent: Agent,
  path = '/who',
  headers: Record<string, string> = {}
): Promise<Answer> {
  const { port } = app.server.address() as AddressInfo
  const outgoing = httpsRequest({ host: '127.0.0.1', servername: 'localhost', port, path, agent, headers }).end()
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  const socket = response.socket as TLSSocket
  const resumed = socket.isSessionReused()
  let body = ''
  for await (const chunk of response) body += String(chunk)
  return { status: response.statusCode!, challenge: response.headers['www-authenticate'], body, socket, resumed }
}

function agentOf (
  t: Test,
  certificate: Partial<Certificate>,
  options: { keepAlive?: boolean; maxVersion?: 'TLSv1.2' } = {}
): Agent {
  const agent = new Agent({ ...certificate, ca: authority.cert, ...options })
  t.teardown(() => { agent.destroy() })
  return agent
}

t.test('a known service is who its certificate says', async t => {
  const app = await serve(t)
  for (const maxVersion of ['TLSv1.2', undefined] as const) {
    const { status, body } = await ask(app, agentOf(t, good, maxVersion === undefined ? {} : { maxVersion }))
    t.equal(status, 200)
    const principal = JSON.parse(body) as { session: string, expiresAt: number }
    t.match(principal, {
      id: RECORDER,
      kind: 'service',
      roles: ['recorder'],
      scopes: ['write'],
      session: /^([0-9A-F]{2}:){31}[0-9A-F]{2}$/,
      claims: { subject: 'CN=leaf, O=Cameras', issuer: 'CN=Test CA', serial_number: /^[0-9A-F]+$/ },
      authenticatedBy: 'mtls'
    })
    t.ok(principal.expiresAt > Date.now() && principal.expiresAt <= Date.now() + 3_600_000)
  }
  const viewer = authority.issue([
    'subjectAltName = DNS:viewer,URI:spiffe://prod/ns/cams/sa/viewer,email:a@b.test',
    'extendedKeyUsage = serverAuth, clientAuth'
  ])
  t.match(JSON.parse((await ask(app, agentOf(t, viewer))).body), {
    id: 'spiffe://prod/ns/cams/sa/viewer',
    roles: [],
    scopes: []
  })
})

t.test('every other certificate gets the one 401', async t => {
  const app = await serve(t)
  const uri = `subjectAltName = URI:${RECORDER}`
  const san = (names: string): string[] => [`subjectAltName = ${names}`, CLIENT]
  const issueNames = (name: string, san = '@names'): Certificate =>
    authority.issue([`subjectAltName = ${san}`, CLIENT, '[names]', name])
  const hour = 3_600_000
  const refused: Record<string, Certificate> = {
    expired: authority.issue([uri, CLIENT], { from: Date.now() - 2 * hour, to: Date.now() - 1000 }),
    'not valid yet': authority.issue([uri, CLIENT], { from: Date.now() + hour, to: Date.now() + 2 * hour }),
    'another authority of the same name': stranger.issue([uri, CLIENT]),
    'no extended key usage': authority.issue([uri]),
    'for servers only': authority.issue([uri, 'extendedKeyUsage = serverAuth']),
    'for any purpose': authority.issue([uri, 'extendedKeyUsage = anyExtendedKeyUsage']),
    'an authority itself': authority.issue([uri, CLIENT, 'basicConstraints = CA:TRUE']),
    'two URIs': authority.issue(san(`URI:${RECORDER},URI:spiffe://prod/ns/cams/sa/viewer`)),
    'the same URI twice': authority.issue(san(`URI:${RECORDER},URI:${RECORDER}`)),
    'an unknown URI': authority.issue(san('URI:spiffe://prod/ns/cams/sa/recorder2')),
    'the URI in another case': authority.issue(san('URI:spiffe://prod/ns/cams/sa/Recorder')),
    'the URI with a slash more': authority.issue(san(`URI:${RECORDER}/`)),
    'a word of the language': authority.issue(san('URI:__proto__')),
    'the URI as a DNS name': authority.issue(san(`DNS:${RECORDER}`)),
    'the URI within a DNS name': issueNames(`DNS.1 = x\\, URI:${RECORDER}\\, y`),
    'the URI within a mail address': issueNames(`email.1 = a@b\\, URI:${RECORDER}\\, y`),
    'the URI within a directory name': issueNames(`CN = a\\, URI:${RECORDER}\\, y`, 'dirName:names'),
    'the URI within a URI': issueNames(`URI.1 = x:y\\, URI:${RECORDER}\\, y`),
    'the URI in quotes': issueNames(`URI.1 = \\"${RECORDER}\\"`),
    'no alternative name': authority.issue([CLIENT])
  }
  for (const [what, certificate] of Object.entries(refused)) {
    const { status, challenge, body } = await ask(app, agentOf(t, certificate))
    t.equal(status, 401, what)
    t.equal(challenge, 'Bearer error="invalid_token"', what)
    const { request_id: id, ...problem } = JSON.parse(body) as Record<string, unknown>
    t.strictSame(problem, REFUSAL, what)
  }
})

t.test('without a certificate, or without TLS, nobody is there', async t => {
  const app = await serve(t)
  const none = await ask(app, agentOf(t, {}))
  t.strictSame([none.status, none.challenge], [401, 'Bearer'])
  for (const service of [app, await build(t, { mtls: MTLS })]) {
    const injected = await service.inject('/who')
    t.equal(injected.statusCode, 401)
    t.equal(injected.json<{ code: string }>().code, 'MARTY_CORE_UNAUTHENTICATED')
  }
})

t.test('a credential in the headers is judged alone, right or wrong, wherever a certificate is too', async t => {
  const app = await serve(t)
  const agent = agentOf(t, good, { keepAlive: true })
  const { token } = app.auth.tokens.issue({ subject: 'alice', role: 'viewer' })
  const { id: session } = await app.auth.sessions!.create(
    await app.guard.authenticate(token, { address: null, requestId: '1' })
  )
  const { key, keyId } = await app.auth.apiKeys!.create({ name: 'key', roles: [], expiresInSeconds: 60 })
  t.match(JSON.parse((await ask(app, agent, '/who', bearer(token))).body), { id: 'alice', authenticatedBy: 'jwt' })
  t.match(JSON.parse((await ask(app, agent, '/who', bearer(session))).body), {
    id: 'alice',
    authenticatedBy: 'session'
  })
  t.match(JSON.parse((await ask(app, agent, '/who', { 'x-api-key': key })).body), {
    id: keyId,
    authenticatedBy: 'apiKey'
  })
  for (const headers of [
    bearer('wrong'),
    bearer(''),
    bearer(`${token}x`),
    { 'x-api-key': '' },
    { ...bearer(token), 'x-api-key': key }
  ]) {
    const { status, challenge } = await ask(app, agent, '/who', headers)
    t.strictSame([status, challenge], [401, 'Bearer error="invalid_token"'], JSON.stringify(Object.keys(headers)))
  }
  t.equal(
    (await ask(app, agent, '/services', bearer(token))).status,
    401,
    'where only certificates count, a token does not, and does not go unheard'
  )
  t.equal((await ask(app, agent, '/services', { 'x-api-key': key })).status, 401)
  t.equal((await ask(app, agent, '/services')).body, RECORDER)
  t.equal((await ask(app, agent, '/people')).status, 401)
  t.match(
    JSON.parse((await ask(app, agent, '/who', { authorization: 'Basic YTpi' })).body),
    { id: RECORDER },
    'another scheme is no credential of ours'
  )
})

t.test('one connection: read once, judged each time', async t => {
  const app = await serve(t)
  const agent = agentOf(t, authority.issue([`subjectAltName = URI:${RECORDER}`, CLIENT], { to: Date.now() + 6_000 }), {
    keepAlive: true
  })
  const first = await ask(app, agent)
  const second = await ask(app, agent)
  t.strictSame([first.status, second.status, second.body], [200, 200, first.body])
  t.equal(second.socket, first.socket, 'the same connection')
  const { expiresAt } = JSON.parse(first.body) as { expiresAt: number }
  let last = second
  await until(async () => { last = await ask(app, agent); return last.status !== 200 }, 'the certificate to expire')
  t.strictSame([last.status, last.challenge], [401, 'Bearer error="invalid_token"'])
  t.ok(Date.now() >= expiresAt)
})

t.test('a resumed session is judged by the certificate it began with', async t => {
  const app = await serve(t)
  const bad = stranger.issue([`subjectAltName = URI:${RECORDER}`, CLIENT])
  for (const options of [{}, { maxVersion: 'TLSv1.2' } as const]) {
    for (const [certificate, status] of [[good, 200], [bad, 401], [{}, 401]] as const) {
      const agent = agentOf(t, certificate, { keepAlive: false, ...options })
      const first = await ask(app, agent)
      t.strictSame([first.status, first.resumed], [status, false])
      let again = first
      await until(async () => { again = await ask(app, agent); return again.resumed }, 'a resumed session')
      t.equal(again.status, status)
      t.equal(again.challenge, first.challenge)
      if (status === 200) t.equal(again.body, first.body)
    }
  }
})

t.test('sockets of any kind: nothing is thrown but the 401', async t => {
  const authenticator = createMtlsAuthenticator(MTLS)
  const requestWith = (socket: unknown): IncomingMessage => ({ headers: {}, socket } as unknown as IncomingMessage)
  for (const socket of [
    undefined,
    null,
    {},
    { authorized: true },
    { authorized: true, getPeerX509Certificate: 1 },
    { authorized: true, getPeerX509Certificate: () => undefined }
  ]) {
    t.equal(authenticator.find(requestWith(socket)), null)
    t.throws(
      () => authenticator.authenticate('certificate', { address: null, requestId: '1', request: requestWith(socket) }),
      { code: 'MARTY_CORE_CREDENTIAL_INVALID' }
    )
  }
  const broken = requestWith({ authorized: true, getPeerX509Certificate () { throw new Error('unparsable') } })
  t.equal(authenticator.find(broken), 'certificate')
  t.throws(() => authenticator.authenticate('certificate', { address: null, requestId: '1', request: broken }), {
    code: 'MARTY_CORE_CREDENTIAL_INVALID'
  })
  t.throws(
    () => authenticator.authenticate('certificate', { address: null, requestId: '1' }),
    { code: 'MARTY_CORE_CREDENTIAL_INVALID' },
    'a bare token is no connection'
  )
  t.equal(authenticator.accepts('certificate'), false)
})

t.test('bad options stop the start and name the field', async t => {
  const bad: Array<[unknown, RegExp]> = [
    [{}, /"mtls\.allow" is required/],
    [{ allow: {} }, /"mtls\.allow" must be an object with at least one member/],
    [{ allow: [] }, /"mtls\.allow" must be an object/],
    [{ ...MTLS, ca: 'x' }, /"mtls\.ca" is not known/],
    [{ allow: { recorder: { roles: [] } } }, /"mtls\.allow\.recorder" has an invalid name: it must be a URI such as/],
    [{ allow: { 'spiffe://prod/a b': { roles: [] } } }, /must be a URI/],
    [{ allow: { 'spiffe://prod/a,b': { roles: [] } } }, /must be a URI/],
    [{ allow: { [RECORDER]: null } }, /must be an object \{ roles, scopes \}, not null/],
    [{ allow: { [RECORDER]: { roles: ['a'], role: 'b' } } }, /recorder\.role" is not known; did you mean "roles"\?/],
    [{ allow: { [RECORDER]: { roles: 'admin' } } }, /recorder\.roles" must be a list/],
    [{ allow: { [RECORDER]: {} } }, /recorder\.roles" is required/],
    [{ allow: { [RECORDER]: { roles: [], scopes: [''] } } }, /recorder\.scopes\[0\]" must be a non-empty string/]
  ]
  t.throws(() => createMtlsAuthenticator(null as never), { code: 'MARTY_AUTH_OPT_INVALID' })
  for (const [mtls, message] of bad) {
    await t.rejects(build(t, { mtls } as Partial<AuthOptions>), { code: 'MARTY_AUTH_OPT_INVALID', message })
  }
})
