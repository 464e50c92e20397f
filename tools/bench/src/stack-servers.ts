import { randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { ENVIRONMENT, policyData, type Question } from './rbac-data.js'

/** A service made in one of the ways that are compared, and what its callers send. */
export interface Server {
  readonly app: FastifyInstance
  /** A token that is used again and again, as those of real callers are; null for the bare service. */
  readonly token: string | null
}

export interface ServerOptions {
  /** For files that a service needs: its policy, its audit log. */
  readonly folder: string
  readonly redisPort: number | null
}

const POLICY_RULES = 100
/** More than a process can answer in the window: every caller is counted and none is limited. */
const LIMIT = 1_000_000
const WINDOW_MS = 10_000
const ORIGIN = 'https://app.example.org'
const issuer = 'https://bench.example'
const audience = 'bench'
const secret = randomBytes(32)

/** Modules are imported by the server that needs them, because the weight of each is part of what is measured. */
export const SERVERS: Readonly<Record<string, (options: ServerOptions) => Promise<Server>>> = {
  bare,
  stack: async options => await stack(options, question(true)),
  stack_denied: async options => await stack(options, question(false)),
  stack_redis: async options => await stack(options, question(true)),
  handwired: async () => await handwired(false),
  handwired_casbin: async () => await handwired(true)
}

async function bare (): Promise<Server> {
  const { default: Fastify } = await import('fastify')
  const app = Fastify()
  app.get('/', async () => ({ hello: 'world' }))
  return { app, token: null }
}

/** One role, and a permission that the policy of a hundred rules allows or denies it. */
function question (allowed: boolean): Question {
  return policyData(POLICY_RULES).questions(2, 1).find(one => one.allowed === allowed)!
}

async function stack ({ folder, redisPort }: ServerOptions, { permission, roles }: Question): Promise<Server> {
  const [{ default: Fastify }, { security }, { writeFile }, { join }] =
    await Promise.all([import('fastify'), import('@marty/security'), import('node:fs/promises'), import('node:path')])
  const policyFile = join(folder, `policy-${process.pid}.yaml`)
  await writeFile(policyFile, policyData(POLICY_RULES).text)
  const rules = { callers: { limit: LIMIT, windowMs: WINDOW_MS, by: 'principal' } } as const
  const redis = redisPort === null
    ? null
    : (await import('@marty/redis')).openRedis({
        url: `redis://127.0.0.1:${redisPort}`,
        commandTimeoutMs: 5_000
      })
  await redis?.ready(5_000)
  const app = Fastify()
  await app.register(security, {
    environment: 'production',
    auth: { issuer, audience, keys: { signing: { kid: 'bench', algorithm: 'HS256', secret } } },
    rbac: { policyFile, environment: ENVIRONMENT },
    limits: redis === null
      ? { rules }
      : { rules, store: { redis: redis.client, prefix: 'bench:stack', deadlineMs: 5_000, onFailure: 'closed' } },
    headers: { cors: { origins: [ORIGIN] } },
    audit: {
      sink: { file: join(folder, `audit-${process.pid}.log`), mode: 'async' },
      product: { name: 'bench', version: '1.0.0' }
    }
  })
  if (redis !== null) app.addHook('onClose', async () => { await redis.close() })
  app.get('/', { config: { security: { permission, limits: ['callers'] } } }, async () => ({ hello: 'world' }))
  await app.ready()
  return { app, token: app.auth.tokens.issue({ subject: 'alice', roles: [...roles] }).token }
}

/** The same service from the usual plugins, each as its documentation says, at its fastest setting that is honest. */
async function handwired (withCasbin: boolean): Promise<Server> {
  const [{ default: Fastify }, { default: jwt }, { default: rateLimit }, { default: helmet }, { default: cors }] =
    await Promise.all([
      import('fastify'), import('@fastify/jwt'), import('@fastify/rate-limit'), import('@fastify/helmet'),
      import('@fastify/cors')
    ])
  const app = Fastify()
  await app.register(helmet)
  await app.register(cors, { origin: [ORIGIN] })
  await app.register(jwt, {
    secret,
    sign: { iss: issuer, aud: audience, expiresIn: '15m' },
    verify: { algorithms: ['HS256'], allowedIss: issuer, allowedAud: audience, cache: true }
  })
  await app.register(rateLimit, {
    global: false,
    hook: 'preHandler',
    max: LIMIT,
    timeWindow: WINDOW_MS,
    keyGenerator: request => (request.user as { sub: string }).sub
  })
  const { roles, resource, action } = question(true)
  const isAllowed = withCasbin ? await casbin() : null
  app.get('/', {
    config: { rateLimit: {} },
    onRequest: async request => { await request.jwtVerify() },
    preHandler: async (request, reply) => {
      const { role } = request.user as { role: string }
      if (isAllowed !== null && !await isAllowed(role, resource, action)) return await reply.code(403).send()
    }
  }, async () => ({ hello: 'world' }))
  await app.ready()
  return { app, token: app.jwt.sign({ sub: 'alice', role: roles[0]! }) }
}

const MODEL = `
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act
`

/** The same hundred rules. Casbin hands a role's denies to those who inherit it; the question asked has none. */
async function casbin (): Promise<(role: string, resource: string, action: string) => Promise<boolean>> {
  const { newEnforcer, newModelFromString } = await import('casbin')
  const enforcer = await newEnforcer(newModelFromString(MODEL))
  for (const { name, inherits, allow, deny } of policyData(POLICY_RULES).roles) {
    for (const { resource, action } of allow) await enforcer.addPolicy(name, resource, action, 'allow')
    for (const { resource, action } of deny) await enforcer.addPolicy(name, resource, action, 'deny')
    if (inherits !== null) await enforcer.addGroupingPolicy(name, inherits)
  }
  return async (role, resource, action) => await enforcer.enforce(role, resource, action)
}
