import autoload from '@fastify/autoload'
import serveStatic from '@fastify/static'
import websocket from '@fastify/websocket'
import { execFile } from 'node:child_process'
import { get, type IncomingMessage } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import Fastify, {
  type FastifyInstance,
  type FastifyServerOptions,
  type HTTPMethods,
  type InjectOptions,
  type RouteShorthandOptions
} from 'fastify'
import { auth } from '@marty/auth'
import type { MartyError } from '@marty/core'
import { rateLimit } from '@marty/rate-limit'
import { rbac } from '@marty/rbac'
import {
  declareRule, security, type AuthOptions, type RateLimitOptions, type SecurityOptions, type SecurityRule
} from '@marty/security'
import { optionsFor, POLICY } from './service.js'

// Every way of registering that Fastify documents: a caller without a credential gets 401, or the start names the
// route. Never 200.

const RULE: SecurityRule = { permission: 'report:write' }
const GUARDED = { config: { security: RULE } } satisfies RouteShorthandOptions
const FOLDER = join(import.meta.dirname, 'autoload')
const handler = async (): Promise<string> => 'secret'
const options = (): SecurityOptions => ({ ...optionsFor('/nowhere'), audit: false })

interface Outcome { readonly app: FastifyInstance, readonly error: MartyError | null }

/** Builds and starts an application: what refused the start, or null. */
async function start (
  t: Test,
  build: (app: FastifyInstance) => unknown,
  server: FastifyServerOptions = {}
): Promise<Outcome> {
  const app = Fastify(server) as unknown as FastifyInstance
  t.teardown(async () => {
    await app.close().catch(() => {})
  })
  try {
    await build(app)
    await app.ready()
    return { app, error: null }
  } catch (error) {
    return { app, error: error as MartyError }
  }
}

interface Way {
  readonly name: string
  readonly server?: FastifyServerOptions
  /** What it registers, guarded by RULE; the plugin is there already, unless the way says otherwise. */
  build (app: FastifyInstance): unknown
  readonly withoutPlugin?: true
  readonly requests: readonly (InjectOptions | string)[]
}

const byDevice = {
  name: 'device',
  storage: () => {
    const handlers = new Map<string, unknown>()
    return {
      get: (key: string) => handlers.get(key) ?? null,
      set: (key: string, value: unknown) => { handlers.set(key, value) }
    }
  },
  deriveConstraint: (request: IncomingMessage) => request.headers['x-device'] as string,
  mustMatchWhenDerived: false
}

const RIGHT: readonly Way[] = [
  {
    name: 'a shorthand method',
    build: app => app.get('/x', GUARDED, handler),
    requests: ['/x', { method: 'HEAD', url: '/x' }]
  },
  { name: 'app.route', build: app => app.route({ method: 'GET', url: '/x', ...GUARDED, handler }), requests: ['/x'] },
  {
    name: 'app.route with several methods',
    build: app => app.route({ method: ['GET', 'POST', 'PATCH'], url: '/x', ...GUARDED, handler }),
    requests: (['GET', 'POST', 'PATCH', 'HEAD'] as const).map(method => ({ method, url: '/x' }))
  },
  {
    name: 'app.all',
    build: app => app.all('/x', GUARDED, handler),
    requests: (['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'] as const).map(method => ({
      method,
      url: '/x'
    }))
  },
  {
    name: 'a method of its own',
    build: app => {
      app.addHttpMethod('MKCOL', { hasBody: true })
      app.route({ method: 'MKCOL' as HTTPMethods, url: '/x', ...GUARDED, handler })
    },
    requests: [{ method: 'MKCOL' as 'GET', url: '/x' }]
  },
  {
    name: 'wildcards',
    build: app => app.get('/files/*', GUARDED, handler),
    requests: ['/files/a', '/files/', '/files/a/b?c=d', '/files/%2e']
  },
  {
    name: 'a wildcard for everything',
    build: app => app.get('*', GUARDED, handler),
    requests: ['/', '/anything', '/a/b']
  },
  {
    name: 'parameters',
    build: app => {
      app.get('/one/:id', GUARDED, handler)
      app.get('/number/:id(^\\d+$)', GUARDED, handler)
      app.get('/maybe/:id?', GUARDED, handler)
    },
    requests: ['/one/1', '/one/%31', '/number/7', '/maybe', '/maybe/', '/maybe/3']
  },
  {
    name: 'a HEAD route of its own',
    build: app => {
      app.head('/x', GUARDED, handler)
      app.get('/x', GUARDED, handler)
    },
    requests: ['/x', { method: 'HEAD', url: '/x' }]
  },
  {
    name: 'HEAD where none is exposed',
    server: { exposeHeadRoutes: false },
    build: app => app.head('/x', GUARDED, handler),
    requests: [{ method: 'HEAD', url: '/x' }]
  },
  { name: 'OPTIONS', build: app => app.options('/x', GUARDED, handler), requests: [{ method: 'OPTIONS', url: '/x' }] },
  {
    name: 'constraints by host and version',
    build: app => {
      app.get('/x', { ...GUARDED, constraints: { host: 'a.example' } }, handler)
      app.get('/x', { ...GUARDED, constraints: { host: /^b\./ } }, handler)
      app.get('/x', { ...GUARDED, constraints: { version: '1.2.0' } }, handler)
    },
    requests: [{ host: 'a.example' }, { host: 'b.example' }, { 'accept-version': '1.x' }].flatMap(headers =>
      (['GET', 'HEAD'] as const).map(method => ({ method, url: '/x', headers }))
    )
  },
  {
    name: "a constraint of the application's own",
    server: { routerOptions: { constraints: { device: byDevice } } } as unknown as FastifyServerOptions,
    build: app => app.get('/x', { ...GUARDED, constraints: { device: 'tv' } }, handler),
    requests: [{ url: '/x', headers: { 'x-device': 'tv' } }]
  },
  {
    name: 'a prefix, with every kind of trailing slash',
    build: async app => {
      for (const prefixTrailingSlash of ['both', 'slash', 'no-slash'] as const) {
        await app.register(
          async child => {
            child.get('/', { ...GUARDED, prefixTrailingSlash }, handler)
          },
          { prefix: `/${prefixTrailingSlash}` }
        )
      }
    },
    requests: [
      '/both',
      '/both/',
      '/slash/',
      '/no-slash',
      { method: 'HEAD', url: '/both/' },
      { method: 'HEAD', url: '/both' }
    ]
  },
  {
    name: 'slashes and cases that are ignored',
    server: { routerOptions: { ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, caseSensitive: false } },
    build: app =>
      app.register(
        async child => {
          child.get('/', GUARDED, handler)
        },
        { prefix: '/p' }
      ),
    requests: ['/p', '/p/', '//p', '/P']
  },
  {
    name: 'nested plugins, with options',
    build: app =>
      app.register(
        async outer => {
          await outer.register(
            async (inner, { url }: { url: string }) => {
              inner.get(url, GUARDED, handler)
            },
            { prefix: '/inner', logLevel: 'silent', url: '/x' }
          )
        },
        { prefix: '/outer' }
      ),
    requests: ['/outer/inner/x']
  },
  {
    name: 'a scope with decorators and its own 404',
    build: app =>
      app.register(
        async child => {
          child.decorateRequest('tenant', '')
          child.setNotFoundHandler(async (_request, reply) => await reply.code(404).send('nothing here'))
          child.get('/x', GUARDED, handler)
        },
        { prefix: '/child' }
      ),
    requests: ['/child/x']
  },
  {
    name: 'routes inside after()',
    build: app => {
      app
        .register(async () => {})
        .after(() => {
          app.get('/x', GUARDED, handler)
        })
    },
    requests: ['/x']
  },
  {
    name: 'the plugin without await, routes in a plugin after it',
    withoutPlugin: true,
    build: app => {
      void app.register(security, options())
      void app.register(async child => {
        child.get('/x', GUARDED, handler)
      })
    },
    requests: ['/x']
  },
  {
    name: 'the plugin without await, routes in its after()',
    withoutPlugin: true,
    build: app => {
      app.register(security, options()).after(() => {
        app.get('/x', GUARDED, handler)
      })
    },
    requests: ['/x']
  },
  {
    name: "autoload, the plugin's file wrapped in fastify-plugin",
    withoutPlugin: true,
    build: app => {
      void app.register(autoload, { dir: join(FOLDER, 'shared') })
      void app.register(autoload, { dir: join(FOLDER, 'routes') })
    },
    requests: ['/reports', { method: 'HEAD', url: '/reports' }]
  },
  ...[true, false].map((wildcard): Way => ({
    name: `static files, ${wildcard ? 'with' : 'without'} a wildcard`,
    build: app => {
      for (const method of ['GET', 'HEAD', 'HEAD,GET', 'GET,HEAD']) {
        for (const url of ['/files/*', '/files', '/files/', '/files/security.js']) declareRule(app, method, url, RULE)
      }
      return app.register(serveStatic, {
        root: join(FOLDER, 'shared'),
        prefix: '/files/',
        wildcard,
        globIgnore: ['**/*.{ts,map}']
      })
    },
    requests: ['/files/security.js', { method: 'HEAD', url: '/files/security.js' }]
  })),
  {
    name: 'what was registered before @fastify/websocket, and after',
    build: async app => {
      app.get('/before', GUARDED, handler)
      await app.register(websocket)
      app.get('/after', { ...GUARDED, websocket: true }, () => {})
    },
    requests: ['/before', '/after']
  }
]

t.test('a protected route answers 401, whichever way it is registered', async t => {
  for (const way of RIGHT) {
    await t.test(way.name, async t => {
      const { app, error } = await start(t, async app => {
        if (way.withoutPlugin !== true) await app.register(security, options())
        await way.build(app)
      }, way.server)
      t.equal(error, null)
      for (const request of way.requests) {
        const answer = await app.inject(request as InjectOptions)
        t.equal(answer.statusCode, 401, JSON.stringify(request))
        t.notMatch(answer.body, 'secret')
      }
    })
  }
})

t.test('a WebSocket route refuses the upgrade, wherever @fastify/websocket is registered', async t => {
  for (const order of ['before', 'after']) {
    const { app, error } = await start(t, async app => {
      if (order === 'before') await app.register(websocket)
      await app.register(security, options())
      if (order === 'after') await app.register(websocket)
      app.get('/ws', { ...GUARDED, websocket: true }, socket => { socket.send('secret') })
    })
    t.equal(error, null)
    const sockets = new Set<Socket>()
    app.server.on('connection', socket => { sockets.add(socket) })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = app.server.address() as AddressInfo
    const headers = {
      connection: 'upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ=='
    }
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const request = get({ host: '127.0.0.1', port, path: '/ws', headers, agent: false }, response => {
        resolve(response.statusCode)
        request.destroy()
      })
      request
        .on('upgrade', (response, socket) => {
          socket.destroy()
          resolve(response.statusCode)
        })
        .on('error', reject)
    })
    t.equal(status, 401, `@fastify/websocket ${order}`)
    for (const socket of sockets) socket.destroy()
  }
})

interface WrongWay {
  readonly name: string
  build (app: FastifyInstance): unknown
  readonly code: string
  readonly message: readonly (string | RegExp)[]
}

const HERE = /\((?:\/|[A-Z]:\\).*registration\.test\.[jt]s:\d+:\d+\)/.source

const WRONG: readonly WrongWay[] = [
  {
    name: 'the plugin in a scope of its own',
    build: async app => {
      await app.register(
        async function reportsApi (child) {
          await child.register(security, options())
        },
        { prefix: '/api' }
      )
      app.get('/outside', GUARDED, handler)
      app.get('/open', { config: { security: { public: true } } }, handler)
    },
    code: 'MARTY_CORE_GUARD_SCOPE',
    message: [
      'reportsApi -> @marty/security (prefix /api)',
      'fastify-plugin',
      new RegExp(`GET /outside ${HERE}`),
      new RegExp(`GET /open ${HERE}`)
    ]
  },
  {
    name: 'the plugin in a scope of its own, and no route outside',
    build: app =>
      app.register(async child => {
        await child.register(security, options())
        child.get('/inside', GUARDED, handler)
      }),
    code: 'MARTY_CORE_GUARD_SCOPE',
    message: ['await child.register(security, options())']
  },
  {
    name: "autoload, the plugin's file not wrapped in fastify-plugin",
    build: app => {
      void app.register(autoload, { dir: join(FOLDER, 'encapsulated') })
      void app.register(autoload, { dir: join(FOLDER, 'routes') })
    },
    code: 'MARTY_CORE_GUARD_SCOPE',
    message: ['securityFile -> @marty/security', /GET \/reports \(.*autoload.routes.reports.index\.[jt]s:\d+:\d+\)/]
  },
  {
    name: 'autoload, a route without a rule',
    build: app => {
      void app.register(autoload, { dir: join(FOLDER, 'shared') })
      void app.register(autoload, { dir: join(FOLDER, 'forgotten') })
    },
    code: 'MARTY_CORE_RULE_MISSING',
    message: [/GET \/reports \(.*autoload.forgotten.reports.index\.[jt]s:\d+:\d+\)/]
  },
  {
    name: 'routes before the plugin',
    build: async app => {
      app.get('/early', GUARDED, handler)
      app.route({ method: ['PUT', 'POST'], url: '/early', handler })
      await app.register(
        async child => {
          child.get('/x', GUARDED, handler)
        },
        { prefix: '/prefix' }
      )
      await app.register(security, options())
    },
    code: 'MARTY_CORE_ROUTE_UNGUARDED',
    message: [
      'before the guard',
      ...['GET /early', 'PUT,POST /early', 'GET /prefix/x'].map(name => new RegExp(`${name} ${HERE}`))
    ]
  },
  {
    name: 'the plugin without await, then routes',
    build: app => {
      void app.register(security, options())
      app.get('/early', GUARDED, handler)
    },
    code: 'MARTY_CORE_ROUTE_UNGUARDED',
    message: ['await app.register(security', new RegExp(`GET /early ${HERE}`)]
  },
  {
    name: 'static files before the plugin',
    build: async app => {
      await app.register(serveStatic, { root: FOLDER, prefix: '/files/' })
      await app.register(security, options())
    },
    code: 'MARTY_CORE_ROUTE_UNGUARDED',
    message: [/\/files\/\* \(.*static.*:\d+:\d+\)/]
  },
  {
    name: 'static files without a rule',
    build: async app => {
      await app.register(security, options())
      await app.register(serveStatic, { root: FOLDER, prefix: '/files/' })
    },
    code: 'MARTY_CORE_RULE_MISSING',
    message: ['/files/*']
  },
  {
    name: 'everything at once',
    build: async app => {
      app.get('/early', GUARDED, handler)
      await app.register(security, options())
      app.get('/forgotten', handler)
      app.get('/misspelt', { config: { security: { permision: 'report:read' } as SecurityRule } }, handler)
      await app.register(
        async child => {
          child.get(
            '/unknown',
            { config: { security: { permission: 'report:raed' } as unknown as SecurityRule } },
            handler
          )
        },
        { prefix: '/child' }
      )
    },
    code: 'MARTY_CORE_ROUTE_UNGUARDED',
    message: [
      new RegExp(`GET /early ${HERE}`),
      new RegExp(`GET /forgotten ${HERE}`),
      new RegExp(`GET /misspelt: .*did you mean "permission".* ${HERE}`),
      new RegExp(`GET /child/unknown: .*report:raed.* ${HERE}`)
    ]
  },
  {
    name: 'everything at once, in a scope',
    build: async app => {
      await app.register(async function scope (child) {
        child.get('/early', GUARDED, handler)
        await child.register(security, options())
        child.get('/forgotten', handler)
        child.get('/misspelt', { config: { security: { permision: 'report:read' } as SecurityRule } }, handler)
      })
      app.get('/outside', handler)
    },
    code: 'MARTY_CORE_GUARD_SCOPE',
    message: [
      /outside the scope[^]*GET \/outside/,
      /before the guard[^]*GET \/early/,
      'GET /forgotten',
      'GET /misspelt'
    ]
  }
]

t.test('the refusal of the start names every route, and requests sent anyway find no open route', async t => {
  for (const way of WRONG) {
    await t.test(way.name, async t => {
      const { app, error } = await start(t, way.build)
      t.equal(error?.code, way.code)
      for (const part of way.message) t.match(error?.message, part)
      for (const url of [
        '/outside',
        '/open',
        '/reports',
        '/early',
        '/prefix/x',
        '/inside',
        '/api/x',
        '/forgotten',
        '/misspelt',
        '/child/unknown',
        '/files/shared/security.js'
      ]) {
        const answer = await app.inject(url).then(
          ({ statusCode }) => statusCode,
          () => 'refused'
        )
        t.not(answer, 200, url)
      }
    })
  }
})

t.test('a GET is named once, its HEAD is not', async t => {
  const { error } = await start(t, async app => {
    app.get('/early', GUARDED, handler)
    await app.register(security, options())
    app.get('/forgotten', handler)
  })
  t.notMatch(error?.message, 'HEAD')
})

t.test('no route can be added once the application is ready', async t => {
  const refused: string[] = []
  const { app, error } = await start(t, async app => {
    await app.register(security, options())
    const attempt = (routeOptions: RouteShorthandOptions) => async (): Promise<void> => {
      try {
        app.get('/late', routeOptions, handler)
      } catch (error) {
        refused.push((error as MartyError).code)
      }
    }
    for (const hook of ['onReady', 'onListen'] as const) {
      app.addHook(hook, attempt(GUARDED))
      app.addHook(hook, attempt({}))
    }
  })
  t.equal(error, null)
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.throws(() => app.get('/late', GUARDED, handler), { code: 'FST_ERR_INSTANCE_ALREADY_LISTENING' })
  const fromFastify = 'FST_ERR_INSTANCE_ALREADY_LISTENING'
  t.same(refused, ['MARTY_CORE_ROUTE_UNGUARDED', 'MARTY_CORE_ROUTE_UNGUARDED', fromFastify, fromFastify])
  t.equal((await app.inject('/late')).statusCode, 404)
})

t.test('a route that an onReady hook registers stops the start', async t => {
  const { error } = await start(t, async app => {
    await app.register(security, options())
    app.addHook('onReady', async () => { app.get('/late', GUARDED, handler) })
  })
  t.match(error, {
    code: 'MARTY_CORE_ROUTE_UNGUARDED',
    message: new RegExp(`GET /late ${HERE} was registered when the application was ready`)
  })
})

t.test('each application of a process is judged by itself', async t => {
  const build = async (app: FastifyInstance): Promise<void> => {
    await app.register(security, options())
    app.get('/x', GUARDED, handler)
  }
  for (const { app, error } of [await start(t, build), await start(t, build)]) {
    t.equal(error, null)
    t.equal((await app.inject('/x')).statusCode, 401)
  }
  const plain = await start(t, app => app.get('/x', handler))
  t.equal(plain.error, null)
  t.equal((await plain.app.inject('/x')).statusCode, 200)
  const forgotten = await start(t, app => app.get('/x', GUARDED, handler))
  t.match(forgotten.error, {
    code: 'MARTY_CORE_ROUTE_UNGUARDED',
    message: /without a guard[^]*GET \/x \(.*registration\.test/
  })
  t.not((await forgotten.app.inject('/x')).statusCode, 200)
})

t.test('a part alone in a scope: plain routes outside stay open, a rule outside refuses the start', async t => {
  const { auth: authOptions, limits } = options() as { auth: AuthOptions, limits: RateLimitOptions }
  const parts = {
    auth: (child: FastifyInstance) => child.register(auth, authOptions),
    rbac: (child: FastifyInstance) => child.register(rbac, { policy: POLICY, environment: 'development' }),
    limits: (child: FastifyInstance) => child.register(rateLimit, limits)
  }
  const rules: Record<string, SecurityRule> = {
    auth: { authenticate: true },
    rbac: RULE,
    limits: { public: true, limits: ['few'] }
  }
  for (const [name, part] of Object.entries(parts)) {
    const config = { security: rules[name]! }
    const scoped = async (child: FastifyInstance): Promise<void> => {
      await part(child)
      child.get('/inside', { config }, handler)
    }
    const fine = await start(t, async app => {
      app.get('/before', handler)
      await app.register(scoped)
      app.get('/after', handler)
    })
    t.equal(fine.error, null, name)
    for (const url of ['/before', '/after']) t.equal((await fine.app.inject(url)).statusCode, 200)
    t.equal((await fine.app.inject('/inside')).statusCode, name === 'limits' ? 200 : 401)

    const open = await start(t, async app => {
      app.get('/before', { config }, handler)
      await app.register(scoped)
      await app.register(async child => { child.get('/beside', { config }, handler) })
    })
    t.match(
      open.error,
      { code: 'MARTY_CORE_ROUTE_UNGUARDED', message: /outside the scope[^]*GET \/before \(.*[^]*GET \/beside \(/ },
      name
    )
    for (const url of ['/before', '/beside']) t.equal((await open.app.inject(url)).statusCode, 403)

    const early = await start(t, async app => {
      app.get('/plain', handler)
      app.get('/early', { config }, handler)
      await part(app)
    })
    t.match(early.error, { code: 'MARTY_CORE_ROUTE_UNGUARDED', message: /before the guard[^]*GET \/early \(/ }, name)
    t.notMatch(early.error?.message, '/plain')
    t.equal((await early.app.inject('/early')).statusCode, 403)
  }
})

t.test('a plugin that failed, and whose error was swallowed, leaves nothing open', async t => {
  const wrong = { ...options(), limits: { rulse: {} } } as unknown as SecurityOptions
  const { app, error } = await start(t, app => {
    app.register(security, wrong).after(() => {})
    app.after(_error => {})
    void app.register(async child => {
      child.get('/x', GUARDED, handler)
      child.get('/plain', handler)
    })
  })
  t.match(error, { code: /^MARTY_/ })
  for (const url of ['/x', '/plain']) {
    t.not(
      await app.inject(url).then(
        ({ statusCode }) => statusCode,
        () => 'refused'
      ),
      200
    )
  }

  const onlyPublic = await start(t, app => {
    app.register(security, wrong).after(_error => {})
    void app.register(async child => { child.get('/x', { config: { security: { public: true } } }, handler) })
  })
  t.match(onlyPublic.error, { code: 'MARTY_RATE_LIMIT_OPT_INVALID' })
})

t.test('a module that is loaded after the application was made still refuses what it cannot guard', async t => {
  const service = JSON.stringify(join(import.meta.dirname, 'service.js'))
  // Every application is made before the first import of the plugin, as where a file of plugins is loaded by name.
  const program = `
    import Fastify from 'fastify'
    const [right, early, scope, part] = [Fastify(), Fastify(), Fastify(), Fastify()]
    const handler = async () => 'secret'
    const rule = { config: { security: { permission: 'report:write' } } }

    early.get('/early', rule, handler)
    early.post('/early/:id', handler)
    for (const host of ['a.example', 'b.example']) early.get('/host', { ...rule, constraints: { host } }, handler)
    scope.get('/early', rule, handler)
    part.get('/early', rule, handler)
    part.get('/plain', handler)

    const { security } = await import('@marty/security')
    const { auth } = await import('@marty/auth')
    const { optionsFor } = await import(${service})
    const options = { ...optionsFor('/nowhere'), audit: false }

    await right.register(security, options)
    right.get('/inside', rule, handler)
    await early.register(security, options)
    scope.register(async function scope (child) {
      await child.register(security, options)
      child.get('/inside', rule, handler)
    })
    scope.register(async child => { child.get('/outside', rule, handler) })
    part.register(async child => { await child.register(auth, options.auth) })

    const results = {}
    for (const [name, app] of Object.entries({ right, early, scope, part })) {
      const error = await app.ready().then(() => null, error => error)
      const statuses = {}
      for (const url of ['/early', '/outside', '/inside', '/plain']) statuses[url] = (await app.inject(url)).statusCode
      results[name] = { code: error?.code ?? null, message: error?.message ?? '', statuses }
    }
    process.stdout.write(JSON.stringify(results))
  `
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
    cwd: join(import.meta.dirname, '..')
  })
  const { right, early, scope, part } = JSON.parse(stdout) as Record<string, { message: string }>
  t.match(right, { code: null, statuses: { '/inside': 401 } })

  t.match(early, { code: 'MARTY_CORE_ROUTE_UNGUARDED', statuses: { '/early': 403 } })
  const names = [
    'GET,HEAD /early',
    'POST /early/:id',
    'GET,HEAD /host {"host":"a.example"}',
    'GET,HEAD /host {"host":"b.example"}'
  ]
  for (const name of names) t.ok(early?.message.includes(`  ${name}\n`), name)

  t.match(scope, { code: 'MARTY_CORE_GUARD_SCOPE', statuses: { '/early': 403, '/outside': 403, '/inside': 401 } })
  t.match(scope?.message, /scope -> @marty\/security[^]*GET \/outside[^]*GET,HEAD \/early/)

  // Fastify tells nothing of the rule of such a route before the request, and a part alone leaves plain routes open.
  t.match(part, { code: null, statuses: { '/early': 403, '/plain': 200 } })
})

t.test(
  'a place is the line as the process shows it: of TypeScript with source maps, of JavaScript without',
  async t => {
    const program = `
    import autoload from '@fastify/autoload'
    import Fastify from 'fastify'
    import { useGuard } from '@marty/core'
    const app = Fastify()
    useGuard(app, { strict: true })
    app.register(autoload, { dir: ${JSON.stringify(join(FOLDER, 'forgotten'))} })
    process.stdout.write(await app.ready().then(() => 'started', error => error.message))
  `
    for (const [hasMaps, extension] of [
      [true, 'ts'],
      [false, 'js']
    ] as const) {
      const { stdout } = await promisify(execFile)(
        process.execPath,
        ['--input-type=module', '-e', `process.setSourceMapsEnabled(${hasMaps})\n${program}`],
        { cwd: join(import.meta.dirname, '..') }
      )
      t.match(stdout, new RegExp(`GET /reports \\(.*forgotten.reports.index\\.${extension}:\\d+:\\d+\\)`))
    }
  }
)
