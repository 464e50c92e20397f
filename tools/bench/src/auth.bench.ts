import fastifyJwt from '@fastify/jwt'
import { audit, verifyAuditLog } from '@marty/audit'
import { auth, createMemoryApiKeyStore, type AuthOptions } from '@marty/auth'
import type { SecurityEvent } from '@marty/core'
import Fastify, { type FastifyInstance } from 'fastify'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { measure, ratio, type Case, type Measured, type Plan, type Samples } from './harness.js'
import { checksum, type Credential, type LoadJob } from './http-load.js'
import { startLoadProcess, type LoadProcess } from './load-process.js'
import { median, percentile } from './statistics.js'

/** The targets of some metrics, printed beside them. */
const GOALS: Readonly<Record<string, string>> = {
  warm_vs_bare: '>= 0.75',
  unique_vs_fastify_jwt: '>= 1',
  apikey_cached_p99_ms: '<= 0.3',
  flood_valid_p99_ms: '<= 50',
  flood_valid_401: '0',
  audit_async_events_per_s: '>= 20000'
}
const CONNECTIONS = 16
const WARM_UP_REQUESTS = 8_000
const issuer = 'https://bench.example'
const audience = 'bench'
const kid = 'bench'
const secret = randomBytes(32)

/** Measures authentication over real sockets, compared with none and with @fastify/jwt, and during floods. */
export async function authBench (plan: Plan, progress: (done: number, of: number) => void): Promise<Measured> {
  const apps = await Promise.all([bare(), guarded(), plainFastifyJwt()])
  const [open, ours, theirs] = apps
  const client = startLoadProcess()
  try {
    const { token } = ours.auth.tokens.issue({ subject: 'alice', role: 'viewer' })
    const unique = uniqueTokens()
    const busy: Record<string, number[]> = {}
    const cases = [
      http('bare', open, client, { kind: 'none' }, busy),
      http('warm', ours, client, { kind: 'same', token }, busy),
      http('unique', ours, client, unique, busy),
      http('fastify_jwt', theirs, client, unique, busy)
    ]
    // Warm up first: the number of iterations would otherwise be chosen for cold code and closed connections.
    for (const one of [...cases, ...cases]) await one.run(WARM_UP_REQUESTS)
    for (const values of Object.values(busy)) values.length = 0
    const samples = await measure(cases, plan, progress)
    const [cached, flood, audited] = [
      await cachedKeys(ours, plan),
      await floodOfWrongSecrets(ours, client, plan),
      await auditEvents(plan)
    ]
    return {
      metrics: {
        warm_vs_bare: ratio(samples, 'bare', 'warm'),
        unique_vs_fastify_jwt: ratio(samples, 'fastify_jwt', 'unique'),
        apikey_cached_p99_ms: median(cached),
        ...flood.metrics,
        audit_async_events_per_s: median(audited)
      },
      goals: GOALS,
      notes: [
        `HTTP over loopback, ${CONNECTIONS} keep-alive connections from another process, one request at a time on each`,
        `the server's thread was busy ${Object.entries(busy)
          .map(([name, values]) => `${name} ${Math.round(median(values) * 100)} %`)
          .join(', ')} of the time: below 90 % the client was the bottleneck, and the ratio says little`,
        'apikey_cached_p99_ms: the time of apiKeys.verify() inside the process while no bcrypt runs, the median of the ' +
          'p99 of each round',
        flood.note
      ],
      samples: { ...samples, apikey_cached_p99_ms: cached, audit_async_events_per_s: audited, ...flood.samples }
    }
  } finally {
    client.close()
    await Promise.all(apps.map(app => app.close()))
  }
}

async function bare (): Promise<FastifyInstance> {
  const app = Fastify()
  app.get('/', async () => 'ok')
  return await listening(app)
}

async function guarded (): Promise<FastifyInstance> {
  const options: AuthOptions = {
    issuer,
    audience,
    keys: { signing: { kid, algorithm: 'HS256', secret } },
    apiKeys: { store: createMemoryApiKeyStore(), prefix: 'bench', environment: 'test', pepper: randomBytes(32) }
  }
  const app = Fastify()
  await app.register(auth, options)
  app.get('/', { config: { security: { authenticate: true } } }, async () => 'ok')
  return await listening(app)
}

/** @fastify/jwt with the same checks as far as it supports them. Without its token cache: every token here is new. */
async function plainFastifyJwt (): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(fastifyJwt, {
    secret,
    verify: {
      algorithms: ['HS256'],
      allowedIss: issuer,
      allowedAud: audience,
      requiredClaims: ['iss', 'aud', 'sub', 'exp', 'iat', 'jti'],
      cache: false
    }
  })
  app.get('/', { onRequest: async request => { await request.jwtVerify() } }, async () => 'ok')
  return await listening(app)
}

async function listening (app: FastifyInstance): Promise<FastifyInstance> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  return app
}

function portOf (app: FastifyInstance): number {
  return (app.server.address() as AddressInfo).port
}

function uniqueTokens (): Credential {
  const iat = Math.floor(Date.now() / 1000)
  return {
    kind: 'jwt',
    secret: secret.toString('base64url'),
    header: { alg: 'HS256', typ: 'at+jwt', kid },
    claims: {
      iss: issuer,
      aud: audience,
      sub: 'alice',
      user_id: 'alice',
      role: 'viewer',
      roles: ['viewer'],
      iat,
      exp: iat + 900
    }
  }
}

/** Records in `busy` the share of each slice in which the server's thread was working. */
function http (
  name: string,
  app: FastifyInstance,
  client: LoadProcess,
  credential: Credential,
  busy: Record<string, number[]>
): Case {
  const values = (busy[name] = [] as number[])
  const job = (requests: number): LoadJob => ({ port: portOf(app), credential, requests, connections: CONNECTIONS })
  return {
    name,
    prepare: requests => client.prepare(job(requests)),
    async run (requests) {
      const before = performance.eventLoopUtilization()
      const { statuses } = await client.run(job(requests))
      values.push(performance.eventLoopUtilization(before).utilization)
      if (statuses[200] !== requests) throw new Error(`${name} answered ${JSON.stringify(statuses)}`)
    }
  }
}

/** The 99th percentile of verifying a known key, in milliseconds; one value per round. */
async function cachedKeys ({ auth: { apiKeys } }: FastifyInstance, { rounds }: Plan): Promise<number[]> {
  const { key } = await apiKeys!.create({ name: 'cached', roles: ['viewer'], expiresInSeconds: 3_600 })
  await apiKeys!.verify(key)
  const p99: number[] = []
  for (let round = 0; round < rounds; round++) {
    const times: number[] = []
    for (let i = 0; i < 2_000; i++) {
      const started = performance.now()
      await apiKeys!.verify(key)
      times.push(performance.now() - started)
      if (i % 32 === 31) await new Promise(resolve => setImmediate(resolve))
    }
    p99.push(percentile(times, 0.99))
  }
  return p99
}

interface Flood {
  readonly metrics: { readonly flood_valid_p99_ms: number, readonly flood_valid_401: number }
  readonly note: string
  readonly samples: Samples
}

/** The owner of a key keeps using it while another client guesses its secret. */
async function floodOfWrongSecrets (app: FastifyInstance, client: LoadProcess, { floodSeconds }: Plan): Promise<Flood> {
  const { key } = await app.auth.apiKeys!.create({ name: 'flooded', roles: ['viewer'], expiresInSeconds: 3_600 })
  const port = portOf(app)
  const start = key.split('_').slice(0, 3).join('_') + '_'
  if (!key.endsWith(checksum(key.slice(0, -7)))) {
    throw new Error('The format of API keys has changed: the flood would not reach the hashing')
  }
  const attacker = startLoadProcess()
  try {
    const owner: LoadJob = {
      port,
      credential: { kind: 'same', token: key },
      requests: 100 * floodSeconds,
      perSecond: 100,
      connections: 50
    }
    // Linux answers on all of 127.0.0.0/8, so the attacker can have a different address.
    const guesses: LoadJob = {
      port,
      credential: { kind: 'wrong key', start },
      requests: 1_000 * floodSeconds,
      perSecond: 1_000,
      connections: 200,
      ...(process.platform === 'linux' ? { from: '127.0.0.2' } : {})
    }
    await client.prepare(owner)
    await attacker.prepare(guesses)
    await app.auth.apiKeys!.verify(key)
    const [attack, valid] = await Promise.all([attacker.run(guesses), client.run(owner)])
    return {
      metrics: { flood_valid_p99_ms: percentile(valid.latenciesMs, 0.99), flood_valid_401: valid.statuses[401] ?? 0 },
      note: `flood: for ${floodSeconds} s, 1000/s with a wrong secret got ${JSON.stringify(attack.statuses)}, 100/s ` +
        `with the right one got ${JSON.stringify(valid.statuses)} (status 0: no free connection)`,
      samples: { flood_valid_ms: valid.latenciesMs, flood_wrong_ms: attack.latenciesMs }
    }
  } finally {
    attacker.close()
  }
}

/** Events per second, one value per round: from the first event until all are in the file and it is closed. */
async function auditEvents ({ rounds }: Plan): Promise<number[]> {
  const folder = await mkdtemp(join(tmpdir(), 'marty-bench-'))
  const event: SecurityEvent = {
    type: 'authentication',
    action: 'GET /',
    outcome: 'failure',
    reason: 'MARTY_CORE_CREDENTIAL_INVALID',
    principal: { id: 'alice', kind: 'user', roles: ['viewer'] },
    address: '203.0.113.7',
    requestId: 'req-1'
  }
  const rates: number[] = []
  try {
    for (let round = 0; round < Math.ceil(rounds / 3); round++) {
      const file = join(folder, `audit-${round}.log`)
      const app = Fastify()
      await app.register(audit, { sink: { file, mode: 'async' }, product: { name: 'bench', version: '1.0.0' } })
      await app.ready()
      const count = 10_000
      const started = performance.now()
      for (let i = 0; i < count; i += 500) await Promise.all(Array.from({ length: 500 }, () => app.audit.record(event)))
      await app.close()
      rates.push(count / (performance.now() - started) * 1000)
      const verified = await verifyAuditLog(file)
      if (!verified.ok || verified.records < count) {
        throw new Error(`the audit log is not complete: ${JSON.stringify(verified)}`)
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return rates
}
