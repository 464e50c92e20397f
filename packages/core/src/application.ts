import { subscribe } from 'node:diagnostics_channel'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { RouteUndeclared, RouteUnguarded } from './errors.js'
import type { Guard } from './guard.js'
import type { GuardedOperation } from './operation.js'
import type { SecurityRule } from './rule.js'
import { placeOfRegistration, stackAbove } from './stack-place.js'
import { refuseStart, type StartProblem } from './start-problems.js'

// Fastify copies a route's config (symbols too), so the operation travels inside it.
export const kOperation: unique symbol = Symbol('marty.operation')
export type RouteConfig = { [kOperation]?: GuardedOperation, security?: SecurityRule }

/** A guard, and where it stands. It covers the routes that are registered after it in its scope and below. */
interface PlacedGuard {
  readonly guard: Guard
  readonly scope: FastifyInstance
  /** As it was then: plugins that share the scope add their names later. */
  readonly scopeName: string
}

/** What a guard made of a route: no operation when the route has no rule. */
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

/** What is known of one application, which is a root instance with all its scopes. */
export interface Application {
  readonly root: FastifyInstance
  readonly guards: PlacedGuard[]
  /** By their options, which are one object for every hook of one registration. */
  readonly routes: Map<RouteOptions, RegisteredRoute>
  /** Routes that were there before this module was loaded: `printRoutes` gives their names and no more. */
  readonly unseen: readonly string[]
  hasLastDefence: boolean
  isVerified: boolean
  isRefused: boolean
}

/** Enough for a path. */
const MAX_NAME_LENGTH = 200

// A decorator, so that every scope, and whatever wraps an instance, leads to the same one.
const kApplication = Symbol('marty.application')

// Fastify publishes every instance that it makes. With static imports this module is loaded before any is made, so it
// sees every route, wherever a plugin is registered. It also sees applications where the plugin was forgotten.
subscribe('fastify.initialization', message => {
  const { fastify } = message as { fastify: FastifyInstance }
  watch(fastify, [fastify], [])
})

export function applicationOf (fastify: FastifyInstance): Application {
  const known = (fastify as { [kApplication]?: Application })[kApplication]
  if (known !== undefined) return known
  // Loaded after the application was made, as by autoload: scopes that exist do not inherit a hook of the root.
  const scopes = scopesFrom(fastify)
  const root = scopes.at(-1)!
  return watch(root, scopes, printedRoutes(root))
}

/** Fastify makes every scope with `Object.create(parent)`. Should it ever do otherwise, no start passes. */
export function isRoot (fastify: FastifyInstance): boolean {
  const prototype: unknown = Object.getPrototypeOf(fastify)
  return prototype === Object.prototype || prototype === null
}

/** The scope and all above it, the root last. */
function scopesFrom (fastify: FastifyInstance): FastifyInstance[] {
  return isRoot(fastify) ? [fastify] : [fastify, ...scopesFrom(Object.getPrototypeOf(fastify) as FastifyInstance)]
}

/** Adds a guard that was made for this scope. */
export function placeGuard (application: Application, guard: Guard, scope: FastifyInstance): void {
  application.guards.push({ guard, scope, scopeName: scopeNameOf(scope) })
  if (!isRoot(scope)) addLastDefence(application)
}

/** Whether a request to a route that no guard made an operation of must not pass. Other routes never ask. */
export function isDenied (application: Application, request: FastifyRequest): boolean {
  if (hasRule(request.routeOptions.config)) return true
  return !request.is404 && (application.isRefused || isStrict(application))
}

/** Remembers what a guard made of a route. */
export function noteDeclaration (application: Application, options: RouteOptions, declaration: Declaration): void {
  const route = application.routes.get(options)
  if (route !== undefined) route.declaration = declaration
}

/** The line that registered a route, when it is known. */
export function placeOf (application: Application, options: RouteOptions): string | null {
  return application.routes.get(options)?.place ?? null
}

export function nameOf ({ method, url }: RouteOptions): string {
  return `${[method].flat().join(',')} ${url}`
}

function watch (root: FastifyInstance, scopes: readonly FastifyInstance[], unseen: readonly string[]): Application {
  const application: Application = {
    root, guards: [], routes: new Map(), unseen, hasLastDefence: false, isVerified: false, isRefused: false
  }
  root.decorate(kApplication, application)
  const record = function (this: FastifyInstance, options: RouteOptions): void {
    const place = placeOfRegistration(stackAbove(record))
    if (application.isVerified && application.guards.length > 0) throw tooLate(options, place)
    const hadRule = hasRule(options.config)
    // A rule where the root has no guard: the start will be refused unless a guard of the route's own scope takes it.
    if (hadRule && !root.hasDecorator('guard')) addLastDefence(application)
    application.routes.set(options, { scope: this, options, name: nameOf(options), place, hadRule, declaration: null })
  }
  for (const scope of scopes) scope.addHook('onRoute', record)
  root.addHook('onReady', async () => { verifyStart(application) })
  return application
}

/**
 * Denies what no guard covers, on every route of the application. Requests can come in after a refused start (`inject`
 * lets them, from its second call on), and must not find an open route.
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

/** Fastify takes routes in `onReady` hooks and binds no hook to them any more, so neither ours nor any other would run. */
function tooLate (options: RouteOptions, place: string | null): Error {
  return new RouteUnguarded(
    `route ${describe({ name: nameOf(options), place })} was registered when the application was ready: ` +
      'no hook is bound to it any more. Register it before, or in a plugin'
  )
}

/** Throws one error that names everything for which the application must not start. */
function verifyStart (application: Application): void {
  const { guards, root, routes } = application
  application.isVerified = true
  // A second copy of this package in the process made the guard, and verifies it.
  if (guards.length === 0 && root.hasDecorator('guard')) return
  const problems = [
    ...guards.filter(({ guard, scope }) => guard.strict && !isRoot(scope)).map(scopeProblem),
    ...isStrict(application) ? application.unseen.map((text): StartProblem => ({ kind: 'early', text })) : [],
    ...[...routes.values()].flatMap(route => routeProblems(application, route)),
    ...guards.flatMap(({ guard }) => guard.verify())
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
  if (!isStrict(application) && !hadRule && !hasRule(config)) return null
  if (declaration === null) {
    if (guards.length === 0) return 'absent'
    return guards.some(guard => isWithin(scope, guard.scope)) ? 'early' : 'outside'
  }
  if (isStrict(application) && !declaration.guard.strict) return 'early'
  // Without an operation and a rule, a strict guard has noted by itself that the rule is missing.
  const { operation, security } = declaration
  const isKept = config?.[kOperation] === (operation ?? undefined) && config?.security === security
  return isKept ? null : 'changed'
}

function scopeProblem ({ scope, scopeName }: PlacedGuard): StartProblem {
  return { kind: 'scope', text: scopeName + (scope.prefix === '' ? '' : ` (prefix ${scope.prefix})`) }
}

/** `app -> api -> @marty/security`: the plugins from the root on, by file, name or source, as Fastify knows them. */
function scopeNameOf (scope: FastifyInstance): string {
  return scopesFrom(scope).slice(0, -1).reverse().map(({ pluginName }) => shorten(pluginName)).join(' -> ')
}

/** A function without a name is known by its source. */
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

/** Fastify registers HEAD beside every GET, from the same line: one of the two is enough in a message. */
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
 * Every route that Fastify prints, as `GET,HEAD /cameras/:id {"host":"a.example"}`. A line holds what it adds to the branch
 * above it; a line without a branch is the same URL with other constraints.
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
