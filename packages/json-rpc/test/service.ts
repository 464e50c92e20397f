import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import { Type } from 'typebox'
import { WebSocket, type ClientOptions } from 'ws'
import {
  ANONYMOUS, CredentialInvalid, defineError, problemErrorHandler, problemNotFoundHandler, useGuard,
  type Principal, type SecurityEvent
} from '@marty/core'
import { jsonRpc, type JsonRpcOptions } from '@marty/json-rpc'
import { until } from '@marty/testing'

declare module '@marty/core' {
  interface SecurityRule {
    readonly testRole?: string
    /** The routes of the transport are limited to nothing unless it is false. */
    readonly testLimit?: false
    readonly audit?: 'all'
  }
}

const Forbidden = defineError({
  name: 'Forbidden',
  code: 'TEST_FORBIDDEN',
  statusCode: 403,
  message: 'The role is missing'
})
const Limited = defineError({ name: 'Limited', code: 'TEST_LIMITED', statusCode: 429, message: 'Too many' })
export const Busy = defineError({ name: 'Busy', code: 'TEST_BUSY', statusCode: 409, message: 'The camera is busy' })

/** A service with real sockets and one real authenticator: the token is `NAME:ROLE`, good for `lifetimeMs`. */
export interface Service {
  readonly app: FastifyInstance
  readonly events: SecurityEvent[]
  readonly logs: string[]
  /** Names of the operations that the throttle check has seen. */
  readonly throttled: string[]
  readonly revoked: Set<string>
  readonly url: () => string
  listen (): Promise<void>
}

export interface ServiceOptions extends JsonRpcOptions {
  readonly lifetimeMs?: number
  /** Failed authentications after which the answer is 429. */
  readonly maxFailures?: number
  /** Names of operations that the throttle check refuses with 429. */
  readonly limited?: readonly string[]
  readonly fastify?: FastifyServerOptions
}

export async function createService (
  t: Test,
  { lifetimeMs = 60_000, maxFailures = Infinity, limited = [], fastify, ...options }: ServiceOptions = {}
): Promise<Service> {
  const logs: string[] = []
  const app = Fastify({
    logger: {
      level: 'info',
      stream: {
        write: (line: string) => {
          logs.push(line)
        }
      }
    },
    ...fastify
  }) as FastifyInstance
  t.teardown(async () => {
    await app.close()
  })
  const guard = useGuard(app, { strict: true })
  app.setErrorHandler(problemErrorHandler)
  app.setNotFoundHandler(problemNotFoundHandler)
  const events: SecurityEvent[] = []
  const throttled: string[] = []
  const revoked = new Set<string>()
  let failures = 0
  guard.addSink(event => {
    events.push(event)
  })
  guard.addAuthenticator({
    method: 'jwt',
    find: ({ headers }) =>
      headers.authorization?.startsWith('Bearer ') === true ? headers.authorization.slice(7) : null,
    accepts: token => token.includes(':'),
    authenticate: async token => {
      const [name = '', role = ''] = token.split(':')
      if (name === 'broken') throw new Error('the key store is at hunter2')
      if (name === '' || !['viewer', 'operator'].includes(role)) throw new CredentialInvalid()
      return {
        ...ANONYMOUS,
        id: name,
        kind: 'user',
        roles: [role],
        authenticatedBy: 'jwt',
        expiresAt: Date.now() + lifetimeMs
      } satisfies Principal
    },
    isAlive: principal => !revoked.has(principal.id)
  })
  guard.addCheck({
    name: 'test-role',
    stage: 'authorize',
    keys: ['testRole'],
    compile: ({ rule: { testRole } }) =>
      testRole === undefined
        ? null
        : call => {
          if (!call.principal.roles.includes(testRole)) throw new Forbidden()
        }
  })
  guard.addCheck({
    name: 'test-limit',
    stage: 'throttle',
    keys: [],
    compile: ({ name, transport }) =>
      transport === 'http'
        ? null
        : () => {
            throttled.push(name)
            if (limited.includes(name)) throw new Limited()
          },
    compileOnAuthFailure: () => () => {
      if (++failures > maxFailures) {
        throw new Limited({ headers: { 'retry-after': '7' }, data: { retry_after_ms: 7000 } })
      }
    }
  })
  guard.addCheck({
    name: 'test-transport-limit',
    stage: 'throttle',
    keys: ['testLimit'],
    compile: ({ transport, rule: { testLimit } }) =>
      transport === 'http' && limited.includes('transport') && testLimit !== false
        ? () => {
            throw new Limited()
          }
        : null
  })
  guard.addCheck({ name: 'test-audit', stage: 'admit', keys: ['audit'], compile: () => null })
  await app.register(jsonRpc, options)

  app.rpc.method({ name: 'ping', security: { public: true }, handler: () => 'pong' })
  app.rpc.method({ name: 'who', security: { public: true }, handler: (_params, { principal }) => principal.id })
  app.rpc.method({ name: 'nothing', security: { public: true }, handler: () => undefined })
  app.rpc.method({
    name: 'explode',
    security: { public: true },
    handler: () => {
      throw new Error('password=hunter2')
    }
  })
  app.rpc.method({ name: 'unwritable', security: { public: true }, handler: () => 1n })
  app.rpc.method({
    name: 'busy',
    security: { public: true },
    handler: () => {
      throw new Busy({ data: { state: 'recording' } })
    }
  })
  app.rpc.method({ name: 'view', security: { testRole: 'viewer' }, handler: (_params, { principal }) => principal.id })
  app.rpc.method({ name: 'operate', security: { testRole: 'operator' }, handler: () => 'done' })
  app.rpc.method({
    name: 'snapshot',
    security: { public: true },
    summary: 'Takes a picture',
    params: Type.Object({
      device: Type.String({ minLength: 1 }),
      quality: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
      format: Type.Optional(Type.Union([Type.Literal('jpg'), Type.Literal('png')])),
      filter: Type.Optional(Type.Object({ topic: Type.String() }, { additionalProperties: false }))
    }),
    result: Type.Object({ device: Type.String() }),
    handler: ({ device }) => ({ device })
  })
  return {
    app,
    events,
    logs,
    throttled,
    revoked,
    url: () => {
      const address = app.server.address()
      if (typeof address !== 'object' || address === null) throw new Error('the service does not listen')
      return `ws://127.0.0.1:${address.port}/ws`
    },
    listen: async () => {
      await app.listen({ host: '127.0.0.1', port: 0 })
    }
  }
}

export interface Answer {
  readonly jsonrpc: string
  readonly id: unknown
  readonly result?: unknown
  readonly error?: { readonly code: number, readonly message: string, readonly data: Record<string, unknown> }
}

/** A client over a real socket that keeps everything it hears. */
export class Client {
  readonly socket: WebSocket
  readonly heard: unknown[] = []
  closed: { readonly code: number, readonly reason: string } | null = null
  #next = 1

  private constructor (socket: WebSocket) {
    this.socket = socket
    socket.on('message', data => { this.heard.push(JSON.parse((data as Buffer).toString())) })
    socket.on('close', (code, reason) => { this.closed = { code, reason: reason.toString() } })
    socket.on('error', () => {})
  }

  static async connect (t: Test, url: string, options: ClientOptions = {}): Promise<Client> {
    const client = new Client(new WebSocket(url, { perMessageDeflate: false, ...options }))
    t.teardown(() => { client.socket.terminate() })
    await new Promise<void>((resolve, reject) => {
      client.socket.once('open', () => { resolve() })
      client.socket.once('error', reject)
    })
    return client
  }

  send (message: unknown): void { this.socket.send(typeof message === 'string' ? message : JSON.stringify(message)) }

  /** The next message that comes as an answer to this text. */
  async ask (message: unknown): Promise<unknown> {
    const before = this.heard.length
    this.send(message)
    await until(() => this.heard.length > before || this.closed !== null)
    if (this.heard.length === before) throw new Error(`closed with ${this.closed?.code} instead of answering`)
    return this.heard[before]
  }

  async call (method: string, params?: object): Promise<Answer> {
    const id = `call-${this.#next++}`
    this.send({ jsonrpc: '2.0', id, method, params })
    await until(() => this.closed !== null || this.#answer(id) !== undefined)
    return this.#answer(id) ?? { jsonrpc: '', id: null }
  }

  #answer (id: string): Answer | undefined {
    return this.heard.find(message => (message as Answer).id === id) as Answer | undefined
  }
}

export interface Refusal {
  readonly status: number
  readonly headers: Record<string, string | string[] | undefined>
  readonly body: Record<string, unknown>
}

/** Tries to connect; the HTTP answer when the upgrade is refused, null when it succeeds. */
export async function refusal (t: Test, url: string, options: ClientOptions = {}): Promise<Refusal | null> {
  const socket = new WebSocket(url, options)
  t.teardown(() => { socket.terminate() })
  socket.on('error', () => {})
  return await new Promise<Refusal | null>(resolve => {
    socket.once('open', () => { resolve(null) })
    socket.once('unexpected-response', (_request, response) => {
      let text = ''
      response.on('data', chunk => { text += chunk })
      response.on('end', () => {
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: JSON.parse(text) as Record<string, unknown>
        })
      })
    })
  })
}
