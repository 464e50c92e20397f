import type { IncomingMessage } from 'node:http'
import type { AuthenticationContext, Authenticator } from './authenticator.js'
import type { Call } from './call.js'
import { compilePipeline, finishCall, methodsOf, orThrow } from './pipeline.js'
import { CredentialInvalid, RuleInvalid } from './errors.js'
import type { EventSink, SecurityEvent } from './event.js'
import { MartyError } from './marty-error.js'
import type { Check, GuardedOperation, Operation } from './operation.js'
import type { AuthenticationMethod, Principal } from './principal.js'
import type { PermissionName, SecurityRule } from './rule.js'
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

/** An operation to declare: what can be called, and by whom. */
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
  /**
   * Declares an operation. Its checks are compiled when the application is ready, because every plugin has added its
   * own checks by then; until then, `run` throws. Returns null when it has no rule and the guard is not strict.
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
  decideBy(decide: Decide): void
  /**
   * Whether a caller has a permission on a resource, for handlers of every transport.
   * Throws when no registered plugin decides about permissions.
   */
  can: Decide
  /** Sends the event to every sink. Resolves when all of them have handled it; never rejects. */
  emit(event: SecurityEvent): Promise<void>
}

/** Whether a caller has a permission. Conditions read `resource`; a missing attribute never grants access. */
export type Decide = (
  principal: Principal,
  permission: PermissionName,
  resource?: Readonly<Record<string, unknown>>
) => boolean

class CompiledOperation implements GuardedOperation {
  readonly name: string
  readonly transport: Operation['transport']
  readonly rule: SecurityRule
  /** Not zero, which would let every call pass: an operation that could not be compiled refuses every call. */
  checks = 1
  decide: GuardedOperation['decide'] = () => new RuleInvalid(`${this.name} was called before the application was ready`)
  readonly run: GuardedOperation['run']
  readonly finish: GuardedOperation['finish']

  constructor (guard: Guard, source: OperationSource, rule: SecurityRule) {
    this.name = source.name
    this.transport = source.transport
    this.rule = rule
    this.run = call => orThrow(this.decide(call))
    this.finish = (call, ...input) => orThrow(finishCall(guard, call, input))
  }
}

export function createGuard (options: GuardOptions = {}): Guard {
  const { strict = false, refusals = 'fast' } = options
  const checks: Check[] = []
  const authenticators: Authenticator[] = []
  const sinks: EventSink[] = []
  const declared: Array<{ operation: CompiledOperation, source: OperationSource }> = []
  const missing: StartProblem[] = []
  let compiled = false
  let decide: Decide = () => { throw new RuleInvalid('no registered plugin decides about permissions') }

  const guard: Guard = {
    strict,
    refusals,
    addCheck (check) { checks.push(check) },
    addAuthenticator (authenticator) { authenticators.push(authenticator) },
    addSink (sink) { sinks.push(sink) },

    operation (source) {
      if (source.rule === undefined || source.rule === null) {
        if (!strict) return null
        const problem: StartProblem = { kind: 'missing', text: withPlace(source.where, source) }
        if (compiled) refuseStart([problem])
        missing.push(problem)
        return null
      }
      const operation = new CompiledOperation(guard, source, Object.freeze({ ...source.rule }))
      declared.push({ operation, source })
      if (compiled) compileOne(operation, source.where)
      return operation
    },

    compile () { refuseStart(guard.verify()) },

    verify () {
      if (compiled) return []
      compiled = true
      const problems = [...missing]
      for (const { operation, source } of declared) {
        try {
          compileOne(operation, source.where)
        } catch (error) {
          problems.push({
            kind: 'invalid',
            text: withPlace(error instanceof Error ? error.message : String(error), source)
          })
        }
      }
      return problems
    },

    operations: () => declared.map(({ operation }) => operation),

    identify (request, context, methods) {
      for (const authenticator of authenticators) {
        if (!isAsked(authenticator, methods)) continue
        const token = authenticator.find(request)
        if (token !== null) return authenticator.authenticate(token, context)
      }
      return null
    },

    hasCredential: request => authenticators.some(authenticator => authenticator.find(request) !== null),

    isGuessable ({ operation, request, token }) {
      const methods = methodsOf(operation)
      const judge = authenticators.find(candidate => isAsked(candidate, methods) &&
        (token === null ? request !== null && candidate.find(request) !== null : candidate.accepts(token)))
      return judge !== undefined && judge.unguessable !== true
    },

    async authenticate (token, context, methods) {
      const authenticator = authenticators.find(candidate => isAsked(candidate, methods) && candidate.accepts(token))
      if (authenticator === undefined) throw new CredentialInvalid()
      return await authenticator.authenticate(token, context)
    },

    isAlive (principal, peek = false) {
      if (principal.expiresAt !== null && principal.expiresAt <= Date.now()) return false
      const authenticator = authenticators.find(candidate => candidate.method === principal.authenticatedBy)
      return authenticator?.isAlive?.(principal, peek) ?? true
    },

    decideBy (decider) { decide = decider },
    can: (principal, permission, resource) => decide(principal, permission, resource),

    emit: event => sinks.length === 0 ? TOLD : tell(event)
  }

  async function tell (event: SecurityEvent): Promise<void> {
    await Promise.allSettled(sinks.map(async sink => { await sink(event) }))
  }

  function compileOne (operation: CompiledOperation, where: string): void {
    verifyRule(operation.rule, where, checks, authenticators.map(authenticator => authenticator.method))
    try {
      const { decide, checks: count } = compilePipeline(guard, operation, checks)
      operation.decide = decide
      operation.checks = count
    } catch (error) {
      if (error instanceof MartyError) throw new RuleInvalid(`${where}: ${error.message}`)
      throw error
    }
  }

  return guard
}

function withPlace (text: string, { place = null }: OperationSource): string {
  return place === null ? text : `${text} (${place})`
}

function isAsked (
  { method, explicit = false }: Authenticator,
  methods: readonly AuthenticationMethod[] | undefined
): boolean {
  return methods === undefined ? !explicit : methods.includes(method)
}

const TOLD: Promise<void> = Promise.resolve()
