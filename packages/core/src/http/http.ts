import { createRequire } from 'node:module'
import type { fastify, FastifyError, FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import {
  applicationOf, isDenied, isUndeclared, kOperation, nameOf, noteDeclaration, placeGuard, placeOf, type Application,
  type RouteConfig
} from './application.js'
import { createCall, type Call } from '../guard/call.js'
import { endOfTurn } from './end-of-turn.js'
import { RouteUndeclared } from '../errors.js'
import { createGuard, type Guard, type GuardOptions } from '../guard/guard.js'
import type { GuardedOperation, Verdict } from '../guard/operation.js'
import { MartyError } from '../marty-error.js'
import { ANONYMOUS } from '../principal.js'
import { problemErrorHandler, problemNotFoundHandler, sendRefusal } from './problem.js'
import { closeRefusalLog } from './refusal-log.js'
import type { RouteRule } from './route-rules.js'
import type { SecurityRule } from '../rule.js'
import { setClientErrorHandler } from './unrouted-responses.js'
import { watchUpgrades } from './upgrades.js'

const kPending = Symbol('marty.pending')

type PendingRequest = FastifyRequest & { [kPending]: Call | null }

interface DeclaredGet {
  readonly security: SecurityRule | undefined
  readonly operation: GuardedOperation | null
  readonly place: string | null
}

/** The GET routes of each guard by URL: Fastify adds a HEAD route to each. */
const getRoutes = new WeakMap<Guard, Map<string, DeclaredGet>>()
/** The rules that {@link declareRule} has set, by method and URL. */
const presetRules = new WeakMap<Guard, Map<string, SecurityRule>>()

/**
 * Error handlers that may be replaced or skipped, because no application wrote them: Fastify's own, and those set by
 * {@link setProblemHandlers}.
 */
const replaceableHandlers = new WeakSet<FastifyInstance['errorHandler']>()

/**
 * Fastify is loaded only when there is an application, which has loaded it anyway. Command-line tools and worker
 * threads that use this package do not load it.
 */
let isDefaultHandlerKnown = false
function learnDefaultHandler (): void {
  if (isDefaultHandlerKnown) return
  isDefaultHandlerKnown = true
  replaceableHandlers.add((createRequire(import.meta.url)('fastify') as typeof fastify)().errorHandler)
}

/**
 * Answers errors, unknown URLs and malformed HTTP requests with problem documents (RFC 9457). An application's own
 * error handler and not-found handler take precedence, whether they are set before or after, in this scope or in a
 * child scope.
 */
export function setProblemHandlers (fastify: FastifyInstance): void {
  learnDefaultHandler()
  if (replaceableHandlers.has(fastify.errorHandler) || fastify.errorHandler.name === 'defaultErrorHandler') {
    fastify.setErrorHandler(problemErrorHandler)
    replaceableHandlers.add(fastify.errorHandler)
  }
  addNotFoundHook(fastify)
  setClientErrorHandler(fastify)
  fastify.addHook('onClose', async () => { closeRefusalLog(fastify) })
}

/**
 * Sets no handler, only hooks: Fastify's default handler stays, so that the application can still set its own. The
 * hooks run before that handler.
 */
function addNotFoundHook (fastify: FastifyInstance): void {
  const options = {
    preHandler: async (request: FastifyRequest, reply: FastifyReply) => problemNotFoundHandler(request, reply)
  }
  try {
    fastify.setNotFoundHandler(options, undefined as never)
  } catch {
    // The application has set its own not-found handler: Fastify refuses for no other reason.
  }
}

/**
 * Error handler for routes without one. A refusal that a handler or hook throws gets the same problem document as a
 * refusal by the guard, unless the application handles errors itself. Other errors go on to the handler of the scope.
 */
function handleThrownRefusal (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const isOurs = replaceableHandlers.has(request.server.errorHandler)
  if (error instanceof MartyError && error.statusCode !== 500 && isOurs) problemErrorHandler(error, request, reply)
  else void reply.send(error)
}

/**
 * Returns the guard of this application. The first call creates it and binds it to the application's requests. Every
 * plugin calls this function, so each plugin works alone; `options` count only in the call that creates the guard.
 */
export function useGuard (fastify: FastifyInstance, options: GuardOptions = {}): Guard {
  if (fastify.hasDecorator('guard')) return fastify.guard
  learnDefaultHandler()
  watchUpgrades(fastify)
  const guard = createGuard(options)
  const application = applicationOf(fastify)
  placeGuard(application, guard, fastify)
  fastify.decorate('guard', guard)
  fastify.decorateRequest('principal', null as never)
  fastify.decorateRequest(kPending as never, null as never)

  fastify.addHook('onRoute', route => {
    declareRoute(application, guard, route)
    route.errorHandler ??= handleThrownRefusal
  })
  decideRequests(fastify, guard, application)
  sendErrorHeaders(fastify)
  fastify.addHook('onClose', async () => { closeRefusalLog(fastify) })
  decidePendingCalls(fastify)
  return guard
}

function decideRequests (fastify: FastifyInstance, guard: Guard, application: Application): void {
  const isFast = guard.refusals === 'fast'
  const notFound = guard.operation({
    name: '404',
    transport: 'http',
    rule: { public: true },
    where: 'the answer to unknown URLs'
  })

  fastify.addHook('onRequest', function (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) {
    request.principal = ANONYMOUS
    const config = request.routeOptions.config as RouteConfig
    // A 404 handler is not a route: a rule on it has no operation, so the request is denied.
    const operation = request.is404 && config.security === undefined ? notFound : config[kOperation]
    if (operation === undefined || operation === null) {
      done(isDenied(application, request) ? new RouteUndeclared() : undefined)
      return
    }
    if (operation.checks === 0) {
      done()
      return
    }
    const call = createCall(operation, request.id, request.ip ?? null, request.raw, ANONYMOUS, null, true)
    const apply = (verdict: Verdict): void => {
      const isSentHere = isFast && verdict instanceof MartyError && verdict.statusCode < 500 &&
        replaceableHandlers.has(request.server.errorHandler)
      // Often the error holds the same headers object as the call; it is sent with the refusal, so do not set it twice.
      if (call.responseHeaders !== null && !(isSentHere && verdict.headers === call.responseHeaders)) {
        void reply.headers(call.responseHeaders)
      }
      if (verdict === undefined) {
        request.principal = call.principal
        if (call.pending !== null) (request as PendingRequest)[kPending] = call
        done()
      } else if (isSentHere) {
        // Fastify's error path doubles the cost of a response: rejecting an attacker must not cost more than serving
        // a client.
        sendRefusal(verdict, request, reply)
      } else {
        done(verdict)
      }
    }
    void endOfTurn().then(() => {
      const verdict = operation.decide(call)
      if (verdict === undefined || verdict instanceof Error) apply(verdict)
      else void verdict.then(apply)
    })
  })
}

/**
 * An application's error handler rarely sends the headers of the error. They are set on the raw response, so that
 * headers set by the handler override them.
 */
function sendErrorHeaders (fastify: FastifyInstance): void {
  fastify.addHook('onError', (_request, reply, error, done) => {
    if (error instanceof MartyError) {
      for (const [name, value] of Object.entries(error.headers)) reply.raw.setHeader(name, value)
    }
    done()
  })
}

/**
 * Makes the decisions that wait for the body and the params. In the first preHandler, so that no preHandler of the
 * application responds before all checks have passed.
 */
function decidePendingCalls (fastify: FastifyInstance): void {
  fastify.addHook(
    'preHandler',
    function (request: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void) {
      const call = (request as PendingRequest)[kPending]
      if (call === null) {
        done()
        return
      }
      call.input = [request]
      const verdict = call.operation.decide(call)
      if (verdict === undefined || verdict instanceof Error) done(verdict)
      else void verdict.then(done)
    }
  )
}

/**
 * Sets rules for routes that declare none, such as those of third-party plugins. Call it before registering them. A
 * rule that no route has used when the application is ready stops the start. Throws `MARTY_CORE_RULE_INVALID`.
 */
export function declareRules (fastify: FastifyInstance, rules: readonly RouteRule[]): void {
  useGuard(fastify)
  const { routes, routeRules } = applicationOf(fastify)
  const open = [...routes.values()].filter(({ hadRule, declaration }) => !hadRule && isUndeclared(declaration))
  routeRules.add(rules, open.map(({ options }) => options.url))
}

/**
 * Sets the rule of one route that is not always registered, such as the preflight route of `@fastify/cors`; otherwise
 * use {@link declareRules}. Call it before registering the plugin.
 */
export function declareRule (fastify: FastifyInstance, method: string, url: string, rule: SecurityRule): void {
  const guard = useGuard(fastify)
  const rules = presetRules.get(guard) ?? new Map<string, SecurityRule>()
  presetRules.set(guard, rules.set(`${method.toUpperCase()} ${url}`, rule))
}

function declareRoute (application: Application, guard: Guard, route: RouteOptions): void {
  // Read once: a getter or proxy could return something else the second time than what was checked.
  const config: RouteConfig = { ...route.config }
  const { security } = config
  const preset = security === undefined
    ? application.routeRules.find([route.method].flat(), route.url)
    : undefined
  const name = nameOf(route)
  const place = placeOf(application, route)
  // Fastify adds a HEAD route with the same rule to every GET route. Both are one operation, so that a missing rule is
  // reported once.
  const get = route.method === 'HEAD' ? getRoutes.get(guard)?.get(route.url) : undefined
  const operation = get !== undefined && get.security === security && (get.operation !== null || get.place === place)
    ? get.operation
    : guard.operation({
      name,
      transport: 'http',
      rule: security ?? presetRules.get(guard)?.get(name) ?? preset?.rule,
      where: `route ${name}`,
      place
    })
  noteDeclaration(application, route, { guard, operation, security })
  if (route.method === 'GET') {
    const known = getRoutes.get(guard) ?? new Map<string, DeclaredGet>()
    getRoutes.set(guard, known.set(route.url, { security, operation, place }))
  }
  if (operation === null) return
  // Copy the config: an application may pass one object to several routes, and each route is a separate operation.
  const headers = preset?.headers === undefined ? {} : { headers: preset.headers }
  route.config = { ...headers, ...config, [kOperation]: operation } as RouteConfig
}
