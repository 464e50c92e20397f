import type { IncomingMessage } from 'node:http'
import { Authentication } from './authentication.js'
import type { AuthenticationContext, Authenticator } from './authenticator.js'
import type { Call } from './call.js'
import { CompiledOperation } from './compiled-operation.js'
import { RuleInvalid } from '../errors.js'
import { EventSinks } from './event-sinks.js'
import type { EventSink, SecurityEvent } from './event.js'
import { MartyError } from '../marty-error.js'
import type { Metric, MetricSource } from './metric.js'
import type { Check, GuardedOperation, Operation, OperationReport } from './operation.js'
import { compilePipeline } from './pipeline.js'
import type { AuthenticationMethod, Principal } from '../principal.js'
import type { PermissionName, SecurityRule } from '../rule.js'
import { refuseStart, type StartProblem } from './start-problems.js'
import { verifyRule } from './verify-rule.js'

export interface GuardOptions {
  /**
   * Refuse to start, and deny requests, when a route has no rule. When it is off, as for plugins used alone in a plain
   * application, routes without a rule are left untouched.
   * @default false
   */
  readonly strict?: boolean
  /**
   * How refusals over HTTP are answered. `fast` skips Fastify's error path, which doubles the cost of a response:
   * rejecting an attacker must not cost more than serving a client. `fastify` uses the error path, so that `onError`
   * hooks (Sentry, OpenTelemetry) see each refusal. If the application sets its own error handler, refusals always
   * take the error path.
   * @default 'fast'
   */
  readonly refusals?: Refusals
}

export type Refusals = 'fast' | 'fastify'

/** An operation to declare: what can be called, and which callers may call it. */
export interface OperationSource {
  readonly name: string
  readonly transport: Operation['transport']
  readonly rule: SecurityRule | undefined
  /** The operation's description in error messages: `route GET /status`. */
  readonly where: string
  /** The source line that declared it, when known: `/app/routes/status.js:12:5`. Appended to the error message. */
  readonly place?: string | null
}

/** The ordered pipeline of checks that runs before every operation, and the security events that it emits. */
export interface Guard {
  readonly strict: boolean
  readonly refusals: Refusals
  addCheck(check: Check): void
  addAuthenticator(authenticator: Authenticator): void
  addSink(sink: EventSink): void
  /** Adds readings to those that {@link Guard.metrics} returns. */
  addMetrics(source: MetricSource): void
  /** Returns the current readings of all plugins, for a metrics endpoint. */
  metrics(): readonly Metric[]
  /**
   * Declares an operation. Its checks are compiled when the application is ready, because every plugin has added its
   * own checks by then; until then, it refuses every call. Returns null when it has no rule and the guard is not
   * strict.
   */
  operation(source: OperationSource): GuardedOperation | null
  /**
   * Compiles every declared operation; throws one error that names every invalid rule. Operations declared later are
   * compiled immediately.
   */
  compile(): void
  /** Like {@link compile}, but returns the problems instead of throwing, for a caller that has more to report. */
  verify(): readonly StartProblem[]
  /** Every declared operation, for documentation and audits. */
  operations(): readonly GuardedOperation[]
  /** The authentication methods that the registered plugins offer. */
  methods(): readonly AuthenticationMethod[]
  /** Every declared operation with what the checks say about it. */
  report(): readonly OperationReport[]
  /** The principal of the first credential in the request; null when it has none. */
  identify(
    request: IncomingMessage,
    context: AuthenticationContext,
    methods?: readonly AuthenticationMethod[]
  ): Principal | Promise<Principal> | null
  /** Whether the request has a credential, valid or not. */
  hasCredential(request: IncomingMessage): boolean
  /**
   * Whether the credential of a call could be guessed, according to the {@link Authenticator} that will verify it.
   * False when the call has none. Failure limits check this before they refuse a call with an unverified credential.
   */
  isGuessable(call: Call): boolean
  /** The principal of a bare token. Throws `MARTY_CORE_CREDENTIAL_INVALID`. */
  authenticate(
    token: string,
    context: AuthenticationContext,
    methods?: readonly AuthenticationMethod[]
  ): Promise<Principal>
  /**
   * Whether a principal that authenticated earlier is still valid. A `peek` (default false) does not count as a use of
   * its credential.
   */
  isAlive(principal: Principal, peek?: boolean): boolean | Promise<boolean>
  /** Sets the function behind `can`. The authorization package calls it once. */
  setAuthorizer(authorizer: Authorizer): void
  /**
   * Whether a caller has a permission on a resource, for handlers of every transport.
   * Throws when no registered plugin decides about permissions.
   */
  can: Authorizer
  /** Sends the event to every sink. Resolves when all of them have handled it; never rejects. */
  emit(event: SecurityEvent): Promise<void>
}

/** Whether a caller has a permission. Conditions read `resource`; a missing attribute never grants access. */
export type Authorizer = (
  principal: Principal,
  permission: PermissionName,
  resource?: Readonly<Record<string, unknown>>
) => boolean

export function createGuard (options: GuardOptions = {}): Guard {
  return new PipelineGuard(options)
}

interface Declared {
  readonly operation: CompiledOperation
  readonly source: OperationSource
}

class PipelineGuard implements Guard {
  readonly strict: boolean
  readonly refusals: Refusals
  readonly #checks: Check[] = []
  readonly #authentication = new Authentication()
  readonly #sinks = new EventSinks()
  readonly #metricSources: MetricSource[] = []
  readonly #declared: Declared[] = []
  readonly #missing: StartProblem[] = []
  #isCompiled = false
  #authorizer: Authorizer = () => { throw new RuleInvalid('no registered plugin decides about permissions') }

  constructor ({ strict = false, refusals = 'fast' }: GuardOptions) {
    this.strict = strict
    this.refusals = refusals
  }

  addCheck (check: Check): void {
    this.#checks.push(check)
  }

  addAuthenticator (authenticator: Authenticator): void {
    this.#authentication.add(authenticator)
  }

  addSink (sink: EventSink): void {
    this.#sinks.add(sink)
  }

  addMetrics (source: MetricSource): void {
    this.#metricSources.push(source)
  }

  metrics (): readonly Metric[] {
    return this.#metricSources.flatMap(read => read())
  }

  operation (source: OperationSource): GuardedOperation | null {
    const { name, transport, rule, where } = source
    if (rule === undefined || rule === null) {
      this.#reportMissingRule(source)
      return null
    }
    const operation = new CompiledOperation(name, transport, Object.freeze({ ...rule }), this.#sinks)
    this.#declared.push({ operation, source })
    if (this.#isCompiled) this.#compile(operation, where)
    return operation
  }

  compile (): void {
    refuseStart(this.verify())
  }

  verify (): readonly StartProblem[] {
    if (this.#isCompiled) return []
    this.#isCompiled = true
    return [...this.#missing, ...this.#declared.flatMap(declared => this.#problemsOf(declared))]
  }

  operations (): readonly GuardedOperation[] {
    return this.#declared.map(({ operation }) => operation)
  }

  methods (): readonly AuthenticationMethod[] {
    return [...new Set(this.#authentication.methods())]
  }

  report (): readonly OperationReport[] {
    return this.#declared.map(({ operation, source: { place = null } }) => {
      const { name, transport, rule } = operation
      const facts = this.#checks.map(check => check.describe?.(operation))
      return Object.assign({ name, transport, rule, place }, ...facts) as OperationReport
    })
  }

  identify (
    request: IncomingMessage,
    context: AuthenticationContext,
    methods?: readonly AuthenticationMethod[]
  ): Principal | Promise<Principal> | null {
    return this.#authentication.identify(request, context, methods)
  }

  hasCredential (request: IncomingMessage): boolean {
    return this.#authentication.hasCredential(request)
  }

  isGuessable (call: Call): boolean {
    return this.#authentication.isGuessable(call)
  }

  authenticate (
    token: string,
    context: AuthenticationContext,
    methods?: readonly AuthenticationMethod[]
  ): Promise<Principal> {
    return this.#authentication.authenticate(token, context, methods)
  }

  isAlive (principal: Principal, peek = false): boolean | Promise<boolean> {
    return this.#authentication.isAlive(principal, peek)
  }

  setAuthorizer (authorizer: Authorizer): void {
    this.#authorizer = authorizer
  }

  can (principal: Principal, permission: PermissionName, resource?: Readonly<Record<string, unknown>>): boolean {
    return this.#authorizer(principal, permission, resource)
  }

  emit (event: SecurityEvent): Promise<void> {
    return this.#sinks.emit(event)
  }

  #reportMissingRule (source: OperationSource): void {
    if (!this.strict) return
    const problem: StartProblem = { kind: 'missing', text: withPlace(source.where, source) }
    if (this.#isCompiled) refuseStart([problem])
    this.#missing.push(problem)
  }

  #problemsOf ({ operation, source }: Declared): StartProblem[] {
    try {
      this.#compile(operation, source.where)
      return []
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error)
      return [{ kind: 'invalid', text: withPlace(text, source) }]
    }
  }

  #compile (operation: CompiledOperation, where: string): void {
    verifyRule(operation.rule, where, this.#checks, this.#authentication.methods())
    try {
      operation.setChecks(compilePipeline(operation, this.#checks, this.#authentication))
    } catch (error) {
      if (error instanceof MartyError) throw new RuleInvalid(`${where}: ${error.message}`)
      throw error
    }
  }
}

function withPlace (text: string, { place = null }: OperationSource): string {
  return place === null ? text : `${text} (${place})`
}
