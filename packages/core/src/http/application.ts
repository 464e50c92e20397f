import { subscribe } from 'node:diagnostics_channel'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { RouteUndeclared, RouteUnguarded } from '../errors.js'
import type { Guard } from '../guard/guard.js'
import type { GuardedOperation } from '../guard/operation.js'
import type { SecurityRule } from '../rule.js'
import { RouteRules } from './route-rules.js'
import { placeOfRegistration, stackAbove } from './stack-place.js'
import { refuseStart, type StartProblem } from '../guard/start-problems.js'

// Fastify copies a route's config, symbols included, so the operation is stored in it.
export const kOperation: unique symbol = Symbol('marty.operation')
export type RouteConfig = { [kOperation]?: GuardedOperation, security?: SecurityRule }

/** A guard and its scope. It covers the routes that are registered after it, in this scope and in its child scopes. */
interface PlacedGuard {
  readonly guard: Guard
  readonly scope: FastifyInstance
  /** The scope's name when the guard was created: plugins that share the scope add their own names later. */
  readonly scopeName: string
}

/** The result of declaring a route to a guard: no operation when the route has no rule. */
interface Declaration {
  readonly guard: Guard
  readonly operation: GuardedOperation | null
  readonly security: SecurityRule | undefined
}

/** A route as Fastify reported it, before any other hook could change it. */
interface RegisteredRoute {
  readonly scope: FastifyInstance
  readonly options: RouteOptions
  readonly name: string
  readonly place: string | null
  readonly hadRule: boolean
  declaration: Declaration | null
}

/** The state of one application: a root instance and all its scopes. */
export interface Application {
  readonly root: FastifyInstance
  readonly guards: PlacedGuard[]
  /** Keyed by the route options: every hook of one registration gets the same object. */
  readonly routes: Map<RouteOptions, RegisteredRoute>
  /** Routes registered before this module was loaded. Only their names are known, from `printRoutes`. */
  readonly unseen: readonly string[]
  /** Rules for routes that declare none. */
  readonly routeRules: RouteRules
  hasLastDefence: boolean
  isVerified: boolean
  isRefused: boolean
}

/** Longer names of scopes are cut in messages. A file path fits. */
const MAX_NAME_LENGTH = 200

// Stored as a decorator, so that every scope, and every wrapper around an instance, finds the same application.
const kApplication = Symbol('marty.application')

// Fastify publishes every instance that it creates on this channel. With static imports, this module is loaded before
// the first instance is created, so it sees every route, in whatever scope a plugin is registered. It also sees
// applications that forgot to register the plugin.
subscribe('fastify.initialization', message => {
  const { fastify } = message as { fastify: FastifyInstance }
  watch(fastify, [fastify], [])
})

export function applicationOf (fastify: FastifyInstance): Application {
  const known = (fastify as { [kApplication]?: Application })[kApplication]
  if (known !== undefined) return known
  // This module was loaded after the application was created, for example by @fastify/autoload. Scopes that already
  // exist do not inherit a new hook of the root, so the hooks are added to each of them.
  const scopes = scopesFrom(fastify)
  const root = scopes.at(-1)!
  return watch(root, scopes, printedRoutes(root))
}

/** Fastify creates every scope with `Object.create(parent)`. If that ever changes, every start is refused. */
export function isRoot (fastify: FastifyInstance): boolean {
  const prototype: unknown = Object.getPrototypeOf(fastify)
  return prototype === Object.prototype || prototype === null
}

/** The scope and all its ancestors, the root last. */
function scopesFrom (fastify: FastifyInstance): FastifyInstance[] {
  return isRoot(fastify) ? [fastify] : [fastify, ...scopesFrom(Object.getPrototypeOf(fastify) as FastifyInstance)]
}

/** Records a guard that was created for this scope. */
export function placeGuard (application: Application, guard: Guard, scope: FastifyInstance): void {
  application.guards.push({ guard, scope, scopeName: scopeNameOf(scope) })
  if (!isRoot(scope)) addLastDefence(application)
}

/** Whether to deny a request to a route for which no guard declared an operation. Not called for other routes. */
export function isDenied (application: Application, request: FastifyRequest): boolean {
  if (hasRule(request.routeOptions.config)) return true
  return !request.is404 && (application.isRefused || isStrict(application))
}

/** Whether no guard has an operation for a route. */
export function isUndeclared (declaration: Declaration | null): boolean {
  return declaration === null || declaration.operation === null
}

/** Records the operation that a guard declared for a route. */
export function noteDeclaration (application: Application, options: RouteOptions, declaration: Declaration): void {
  const route = application.routes.get(options)
  if (route !== undefined) route.declaration = declaration
}

/** The source line that registered a route, when it is known. */
export function placeOf (application: Application, options: RouteOptions): string | null {
  return application.routes.get(options)?.place ?? null
}

export function nameOf ({ method, url }: RouteOptions): string {
  return `${[method].flat().join(',')} ${url}`
}

function watch (root: FastifyInstance, scopes: readonly FastifyInstance[], unseen: readonly string[]): Application {
  const application: Application = {
    root,
    guards: [],
    routes: new Map(),
    unseen,
    routeRules: new RouteRules(),
    hasLastDefence: false,
    isVerified: false,
    isRefused: false
  }
  root.decorate(kApplication, application)
  const record = function (this: FastifyInstance, options: RouteOptions): void {
    const place = placeOfRegistration(stackAbove(record))
    if (application.isVerified && application.guards.length > 0) throw tooLate(options, place)
    const hadRule = hasRule(options.config)
    // A route has a rule, but the root has no guard: the start is refused unless a guard in the route's scope takes it.
    if (hadRule && !root.hasDecorator('guard')) addLastDefence(application)
    application.routes.set(options, { scope: this, options, name: nameOf(options), place, hadRule, declaration: null })
  }
  for (const scope of scopes) scope.addHook('onRoute', record)
  root.addHook('onReady', async () => { verifyStart(application) })
  return application
}

/**
 * Denies requests to routes that no guard covers, in the whole application. Requests can arrive after a refused start
 * (`inject` dispatches them from its second call on) and must not find an open route.
 */
function addLastDefence (application: Application): void {
  if (application.hasLastDefence) return
  application.hasLastDefence = true
  application.root.addHook(
    'onRequest',
    (request: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void) => {
      const config = request.routeOptions.config as RouteConfig
      done(config[kOperation] === undefined && isDenied(application, request) ? new RouteUndeclared() : undefined)
    }
  )
}

/** Fastify accepts routes in `onReady` hooks, but binds no hooks to them any more: no check would run. */
function tooLate (options: RouteOptions, place: string | null): Error {
  return new RouteUnguarded(
    `route ${describe({ name: nameOf(options), place })} was registered when the application was ready: ` +
      'no hook is bound to it any more. Register it before, or in a plugin'
  )
}

/** Throws one error that lists every reason why the application must not start. */
function verifyStart (application: Application): void {
  const { guards, root, routes } = application
  application.isVerified = true
  // A second copy of this package in the process created the guard, and that copy verifies it.
  if (guards.length === 0 && root.hasDecorator('guard')) return
  const problems = [
    ...guards.filter(({ guard, scope }) => guard.strict && !isRoot(scope)).map(scopeProblem),
    ...isStrict(application) ? application.unseen.map((text): StartProblem => ({ kind: 'early', text })) : [],
    ...[...routes.values()].flatMap(route => routeProblems(application, route)),
    ...guards.flatMap(({ guard }) => guard.verify()),
    ...application.routeRules.unused().map((text): StartProblem => ({ kind: 'invalid', text }))
  ]
  application.isRefused = problems.length > 0
  refuseStart(problems)
  routes.clear()
}

function routeProblems (application: Application, route: RegisteredRoute): StartProblem[] {
  const kind = whatIsWrong(application, route)
  return kind === null || isHeadOfGet(route, application.routes) ? [] : [{ kind, text: describe(route) }]
}

function whatIsWrong (application: Application, route: RegisteredRoute): StartProblem['kind'] | null {
  const { scope, options, hadRule, declaration } = route
  const { guards } = application
  const config = options.config as RouteConfig | undefined
  if (!isStrict(application) && !hadRule && !hasRule(config) && isUndeclared(declaration)) return null
  if (declaration === null) {
    if (guards.length === 0) return 'absent'
    return guards.some(guard => isWithin(scope, guard.scope)) ? 'early' : 'outside'
  }
  if (isStrict(application) && !declaration.guard.strict) return 'early'
  // A route without operation and rule needs no entry here: a strict guard already reports the missing rule.
  const { operation, security } = declaration
  const isKept = config?.[kOperation] === (operation ?? undefined) && config?.security === security
  return isKept ? null : 'changed'
}

function scopeProblem ({ scope, scopeName }: PlacedGuard): StartProblem {
  return { kind: 'scope', text: scopeName + (scope.prefix === '' ? '' : ` (prefix ${scope.prefix})`) }
}

/** `app -> api -> @marty/security`: the plugins from the root down, by file, name or source, as Fastify names them. */
function scopeNameOf (scope: FastifyInstance): string {
  return scopesFrom(scope).slice(0, -1).reverse().map(({ pluginName }) => shorten(pluginName)).join(' -> ')
}

/** Fastify names an anonymous function by its source code, which can be long. */
function shorten (name: string): string {
  return name.length <= MAX_NAME_LENGTH ? name : `${name.slice(0, MAX_NAME_LENGTH)}...`
}

function isStrict ({ guards }: Application): boolean {
  return guards.some(({ guard }) => guard.strict)
}

function hasRule (config: unknown): boolean {
  return ((config as RouteConfig | undefined)?.security ?? undefined) !== undefined
}

function isWithin (scope: FastifyInstance, outer: FastifyInstance): boolean {
  return scope === outer || Object.prototype.isPrototypeOf.call(outer, scope)
}

/** Fastify adds a HEAD route to every GET route, from the same line. A message needs only one of the two. */
function isHeadOfGet ({ options: { method, url }, place }: RegisteredRoute, routes: Application['routes']): boolean {
  return (
    method === 'HEAD' &&
    place !== null &&
    [...routes.values()].some(
      ({ options: get, place: line }) => line === place && get.url === url && [get.method].flat().includes('GET')
    )
  )
}

function describe ({ name, place }: { readonly name: string, readonly place: string | null }): string {
  return place === null ? name : `${name} (${place})`
}

/**
 * Every route that Fastify prints, as `GET,HEAD /cameras/:id {"host":"a.example"}`. In the printed tree, a line holds
 * only what it adds to its parent line. A line without a branch symbol is the same URL with other constraints.
 */
function printedRoutes (fastify: FastifyInstance): string[] {
  const tree = fastify.printRoutes({ commonPrefix: false })
  if (tree === '(empty tree)') return []
  const names: string[] = []
  const urls: string[] = []
  for (const line of tree.split('\n')) {
    const [, text, methods, constraints] = /^(.*) \(([A-Z, -]+)\)( \{.*)?$/.exec(line) ?? [line, line]
    const [, indent, part] = /^([│ ]*)[├└]── (.*)$/.exec(text ?? '') ?? []
    if (indent !== undefined && part !== undefined) urls.splice(indent.length / 4, Infinity, part)
    if (methods !== undefined) names.push(`${methods.replaceAll(', ', ',')} ${urls.join('')}${constraints ?? ''}`)
  }
  return names.length > 0 ? names : [tree]
}
