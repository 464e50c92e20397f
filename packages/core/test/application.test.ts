import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance, type RouteOptions } from 'fastify'
import { ANONYMOUS, useGuard, type Authenticator, type MartyError, type SecurityRule } from '@marty/core'

// Whatever an application does to its routes: what was declared is enforced, or the start is refused. Never 200.

const RULE: SecurityRule = { authenticate: true }
const GUARDED = { config: { security: RULE } }
const handler = async (): Promise<string> => 'secret'

const never: Authenticator = {
  method: 'jwt',
  find: () => null,
  accepts: () => false,
  authenticate: () => ANONYMOUS
}

interface Outcome {
  readonly code: string | null
  readonly message: string
  readonly status: (url: string) => Promise<number | null>
}

async function start (t: Test, build: (app: FastifyInstance) => unknown): Promise<Outcome> {
  const app = Fastify()
  t.teardown(async () => { await app.close().catch(() => {}) })
  let error: MartyError | null = null
  try {
    await build(app)
    await app.ready()
  } catch (cause) {
    error = cause as MartyError
  }
  const status = async (url: string): Promise<number | null> =>
    await app.inject(url).then(
      ({ statusCode }) => statusCode,
      () => null
    )
  return { code: error?.code ?? null, message: error?.message ?? '', status }
}

function guard (app: FastifyInstance, strict: boolean): void {
  useGuard(app, { strict }).addAuthenticator(never)
}

t.test('an onRoute hook that changes the config after the guard has read it stops the start', async t => {
  const changes: Record<string, (route: RouteOptions) => void> = {
    'another config': route => {
      route.config = { security: { public: true } }
    },
    'no config': route => {
      delete route.config
    },
    'a rule replaced in place': route => {
      route.config!.security = { public: true }
    },
    'a rule removed in place': route => {
      delete route.config!.security
    },
    'a clone without symbols': route => {
      route.config = JSON.parse(JSON.stringify(route.config)) as RouteOptions['config'] & {}
    }
  }
  for (const [name, change] of Object.entries(changes)) {
    for (const strict of [true, false]) {
      const outcome = await start(t, async app => {
        guard(app, strict)
        await app.register(async scope => {
          scope.addHook('onRoute', change)
          scope.get('/x', GUARDED, handler)
        })
      })
      t.match(
        outcome,
        { code: 'MARTY_CORE_ROUTE_UNGUARDED', message: /onRoute hook[^]*GET \/x \(.*application\.test/ },
        name
      )
      t.not(await outcome.status('/x'), 200, name)
    }
  }
})

t.test('an onRoute hook that keeps what is there harms nothing, and one before the guard may set the rule', async t => {
  const outcome = await start(t, async app => {
    app.addHook('onRoute', route => { if (route.url === '/default') route.config = { ...GUARDED.config } })
    guard(app, true)
    await app.register(async scope => {
      scope.addHook('onRoute', route => {
        route.config = Object.freeze({ ...route.config, more: 1 } as RouteOptions['config'] & {})
      })
      scope.get('/x', GUARDED, handler)
      scope.get('/default', handler)
    })
  })
  t.equal(outcome.code, null)
  t.equal(await outcome.status('/x'), 401)
  t.equal(await outcome.status('/default'), 401)
})

t.test('a rule that an onRoute hook adds after the guard has looked stops the start', async t => {
  for (const strict of [true, false]) {
    const outcome = await start(t, async app => {
      guard(app, strict)
      await app.register(async scope => {
        scope.addHook('onRoute', route => { route.config = { ...route.config, security: RULE } })
        scope.get('/x', handler)
      })
    })
    t.match(outcome, { code: 'MARTY_CORE_ROUTE_UNGUARDED', message: 'GET /x' })
    t.not(await outcome.status('/x'), 200)
  }
})

t.test('a config of any kind is enforced as it was read once, or refused', async t => {
  let reads = 0
  const configs: Record<string, { readonly config: object; readonly isEnforced: boolean }> = {
    frozen: { config: Object.freeze({ security: Object.freeze({ ...RULE }) }), isEnforced: true },
    'without a prototype': { config: Object.assign(Object.create(null) as object, GUARDED.config), isEnforced: true },
    'a getter that changes its mind': {
      config: {
        get security () {
          return reads++ === 1 ? RULE : { public: true }
        }
      },
      isEnforced: true
    },
    'a getter with a new object each time': {
      config: {
        get security () {
          return { ...RULE }
        }
      },
      isEnforced: true
    },
    'a proxy': { config: new Proxy({ ...GUARDED.config }, {}), isEnforced: true },
    'a proxy that hides the rule': {
      config: new Proxy({ ...GUARDED.config }, { ownKeys: () => [], getOwnPropertyDescriptor: () => undefined }),
      isEnforced: false
    },
    'an inherited rule': { config: Object.create(GUARDED.config) as object, isEnforced: false },
    'a rule with inherited members': { config: { security: Object.create(RULE) as object }, isEnforced: false },
    'a rule that is a string': { config: { security: 'authenticate' }, isEnforced: false },
    'a rule that is true': { config: { security: true }, isEnforced: false },
    'a rule that is false': { config: { security: false }, isEnforced: false },
    'a rule that is a list': { config: { security: [RULE] }, isEnforced: false }
  }
  for (const [name, { config, isEnforced }] of Object.entries(configs)) {
    for (const strict of [true, false]) {
      reads = 0
      const outcome = await start(t, app => {
        guard(app, strict)
        app.get('/x', { config } as object, handler)
      })
      if (isEnforced) t.equal(outcome.code, null, name)
      else t.match(outcome, { code: /^MARTY_CORE_/, message: 'GET /x' }, name)
      const status = await outcome.status('/x')
      if (isEnforced) t.equal(status, 401, name)
      else t.not(status, 200, name)
    }
  }
})

t.test('a scope that was made before the guard, and kept, is not a way around it', async t => {
  for (const strict of [true, false]) {
    const outcome = await start(t, async app => {
      let kept = app
      await app.register(async scope => { kept = scope })
      guard(app, strict)
      kept.get('/x', GUARDED, handler)
    })
    t.match(outcome, { code: 'MARTY_CORE_ROUTE_UNGUARDED', message: /scope made before it[^]*GET \/x/ })
    t.equal(await outcome.status('/x'), 403)
  }
})

t.test('a guard below a guard: what only the lower one has read stops the start of the strict one above', async t => {
  const outcome = await start(t, async app => {
    await app.register(async scope => {
      guard(scope, false)
      scope.get('/x', GUARDED, handler)
    })
    guard(app, true)
  })
  t.match(outcome, { code: 'MARTY_CORE_ROUTE_UNGUARDED', message: 'GET /x' })
  t.equal(await outcome.status('/x'), 401)
})

t.test('two scopes with guards of their own are each enforced', async t => {
  const outcome = await start(t, async app => {
    for (const prefix of ['/a', '/b']) {
      await app.register(async scope => {
        guard(scope, false)
        scope.get('/x', GUARDED, handler)
        scope.get('/open', handler)
      }, { prefix })
    }
  })
  t.equal(outcome.code, null)
  for (const prefix of ['/a', '/b']) {
    t.equal(await outcome.status(`${prefix}/x`), 401)
    t.equal(await outcome.status(`${prefix}/open`), 200)
  }
})

t.test('a route that is copied to another application does not take its guard along', async t => {
  const mirror = Fastify()
  t.teardown(() => mirror.close())
  await start(t, app => {
    guard(app, true)
    app.addHook('onRoute', route => { if (route.method === 'GET') mirror.route({ ...route }) })
    app.get('/x', GUARDED, handler)
  })
  await t.rejects(async () => await mirror.ready(), { code: 'MARTY_CORE_ROUTE_UNGUARDED', message: 'GET /x' })
})

t.test('a rule on a 404 handler, which is no route, denies instead of being ignored', async t => {
  for (const build of [
    (app: FastifyInstance) => { guard(app, true) },
    async (app: FastifyInstance) => { await app.register(async scope => { guard(scope, false) }) }
  ]) {
    const outcome = await start(t, async app => {
      await build(app)
      app.setNotFoundHandler({ ...GUARDED } as object, async () => 'secret')
    })
    t.equal(await outcome.status('/nothing'), 403)
  }
})

t.test('a wrapped instance is the application it wraps', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  guard(new Proxy(app, {}), true)
  app.get('/x', GUARDED, handler)
  t.equal((await app.inject('/x')).statusCode, 401)
})

t.test('an operation that could not be compiled refuses, also when the refused start is overlooked', async t => {
  const outcome = await start(t, app => {
    guard(app, true)
    app.get('/misspelt', { config: { security: { ...RULE, authentciate: true } as SecurityRule } }, handler)
    app.get('/public', { config: { security: { public: true } } }, handler)
  })
  t.equal(outcome.code, 'MARTY_CORE_RULE_INVALID')
  t.equal(await outcome.status('/misspelt'), 500)
})

t.test('a place that cannot be read is left out, and nothing else changes', async t => {
  const { prepareStackTrace, stackTraceLimit } = Error
  t.teardown(() => Object.assign(Error, { prepareStackTrace, stackTraceLimit }))
  const outcome = await start(t, app => {
    guard(app, true)
    Error.prepareStackTrace = (_error, frames) => frames
    app.get('/frames', handler)
    Error.prepareStackTrace = () =>
      'Error\n    at eval (eval at run (/x.js:1:1), <anonymous>:1:1)\n    at node:internal/x:1:1\n    nonsense'
    app.get('/nonsense', handler)
    Error.prepareStackTrace = prepareStackTrace as typeof Error.prepareStackTrace & {}
    Error.stackTraceLimit = 0
    app.get('/shallow', handler)
    t.equal(Error.stackTraceLimit, 0, 'the depth of the process is put back')
  })
  for (const line of [
    /route GET \/frames$/m,
    /route GET \/nonsense$/m,
    /route GET \/shallow \(.*application\.test\.[jt]s:\d+:\d+\)$/m
  ]) {
    t.match(outcome.message, line)
  }
})
