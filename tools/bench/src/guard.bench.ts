import {
  ANONYMOUS, createCall, createGuard, useGuard, type Authenticator, type Check, type GuardedOperation, type Principal
} from '@marty/core'
import Fastify, { type FastifyInstance } from 'fastify'
import { measure, ratio, type Case, type Measured, type Plan } from './harness.js'
import { median } from './statistics.js'

declare module '@marty/core' {
  interface SecurityRule { readonly benchRole?: string }
}

const principal: Principal = {
  ...ANONYMOUS,
  id: 'alice',
  kind: 'user',
  roles: ['reader'],
  authenticatedBy: 'jwt',
  expiresAt: Date.now() + 3_600_000
}

const authenticator: Authenticator = {
  method: 'jwt',
  find: ({ headers }) => headers.authorization?.slice(7) ?? null,
  accepts: () => true,
  authenticate: () => principal
}

const roleCheck: Check = {
  name: 'role',
  stage: 'authorize',
  keys: ['benchRole'],
  compile: ({ rule: { benchRole } }) =>
    benchRole === undefined
      ? null
      : call => {
        if (!call.principal.roles.includes(benchRole)) throw new Error('denied')
      }
}

/** Measures the guard itself: a pipeline of empty checks, over HTTP and as a plain function call. */
export async function guardBench (plan: Plan, progress: (done: number, of: number) => void): Promise<Measured> {
  const [bare, open, guarded] = await Promise.all([
    plain(),
    secured({ public: true }),
    secured({ benchRole: 'reader' })
  ])
  const samples = await measure([
    http('bare', bare), http('public', open), http('guarded', guarded), decision()
  ], plan, progress)
  await Promise.all([bare.close(), open.close(), guarded.close()])
  return {
    metrics: {
      public_vs_bare: ratio(samples, 'bare', 'public'),
      guarded_vs_bare: ratio(samples, 'bare', 'guarded'),
      added_us_guarded: median(samples['guarded']!.map((value, round) => value - samples['bare']![round]!)) / 1000,
      decision_ns: median(samples['decision']!)
    },
    samples
  }
}

async function plain (): Promise<FastifyInstance> {
  const app = Fastify()
  app.get('/', async () => 'ok')
  await app.ready()
  return app
}

async function secured (security: { public: true } | { benchRole: string }): Promise<FastifyInstance> {
  const app = Fastify()
  const guard = useGuard(app, { strict: true })
  guard.addAuthenticator(authenticator)
  guard.addCheck(roleCheck)
  app.get('/', { config: { security } }, async () => 'ok')
  await app.ready()
  return app
}

/** Injects requests without sockets, so that the difference between two cases is the work of the framework alone. */
export function http (name: string, app: FastifyInstance, url = '/'): Case {
  const request = { url, headers: { authorization: 'Bearer token' } }
  return {
    name,
    async run (iterations) {
      for (let i = 0; i < iterations; i++) {
        const { statusCode } = await app.inject(request)
        if (statusCode !== 200) throw new Error(`${name} answered ${statusCode}`)
        // Injected requests run in microtasks only. Without a turn of the event loop, their memory is never released.
        if (i % 32 === 31) await new Promise(resolve => setImmediate(resolve))
      }
    }
  }
}

/** One call on an authenticated connection: checks that the principal is still valid and has the role. */
function decision (): Case {
  const guard = createGuard({ strict: true })
  guard.addAuthenticator(authenticator)
  guard.addCheck(roleCheck)
  const operation = guard.operation({
    name: 'view',
    transport: 'rpc',
    rule: { benchRole: 'reader' },
    where: 'method view'
  }) as GuardedOperation
  guard.compile()
  return {
    name: 'decision',
    run (iterations) {
      for (let i = 0; i < iterations; i++) operation.decide(createCall(operation, '1', null, null, principal))
    }
  }
}
