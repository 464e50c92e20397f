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
   * Refuse to boot, and deny, when a route has no rule. Plugins used alone in a plain application
   * leave routes without a rule untouched.
   * @default false
   */
  readonly strict?: boolean
  /**
   * How refusals over HTTP are answered. `fast` answers them without Fastify's error path, which doubles the cost of a
   * response: rejecting an attacker must not cost more than serving a client. `fastify` sends them through it, so that
   * `onError` hooks (Sentry, OpenTelemetry) see each. An application with an error handler of its own has that in both.
   * @default 'fast'
   */
  readonly refusals?: Refusals
}

export type Refusals = 'fast' | 'fastify'

/** Something that is callable and must say by whom. */
export interface OperationSource {
  readonly name: string
  readonly transport: Operation['transport']
  readonly rule: SecurityRule | undefined
  /** What it is, for the message: `route GET /status`. */
  readonly where: string
  /** The line that declared it, when it is known, such as `/app/routes/status.js:12:5`; it stands at the end of the message. */
  readonly place?: string | null
}

/** The ordered pipeline of checks in front of every operation, and the events that come out of it. */
export interface Guard {
  readonly strict: boolean
  readonly refusals: Refusals
  addCheck(check: Check): void
  addAuthenticator(authenticator: Authenticator): void
  addSink(sink: EventSink): void
  /**
   * Declares an operation. Its checks are compiled when the application is ready, when every plugin
   * has added its own; until then, `run` throws. Null when it has no rule and the guard is not strict.
   */
  operation(source: OperationSource): GuardedOperation | null
  /** Compiles every declared operation; throws one error that names every bad rule. Later operations compile at once. */
  compile(): void
  /** The same for a caller that has more to report: returns what {@link compile} would throw. */
  verify(): readonly StartProblem[]
  /** Every declared operation, for documents and audits. */
  operations(): readonly GuardedOperation[]
  /** The principal of the first credential that the request brings; null when there is none. */
  identify(
    request: IncomingMessage,
    context: AuthenticationContext,
    methods?: readonly AuthenticationMethod[]
  ): Principal | Promise<Principal> | null
  /** Whether the request brings a credential, right or wrong. */
  hasCredential(request: IncomingMessage): boolean
  /**
   * Whether the credential that a call brings could be guessed, by the {@link Authenticator} that will judge it. False
   * without one. Failure limits ask it before they refuse a call whose credential nobody has looked at.
   */
  isGuessable(call: Call): boolean
  /** The principal of a bare token. Throws `MARTY_CORE_CREDENTIAL_INVALID`. */
  authenticate(
    token: string,
    context: AuthenticationContext,
    methods?: readonly AuthenticationMethod[]
  ): Promise<Principal>
  /** Whether a principal that was authenticated earlier may still act. A `peek` (default false) is not a use of its credential. */
  isAlive(principal: Principal, peek?: boolean): boolean | Promise<boolean>
  /** What `can` asks. The authorization package sets it once. */
  decideBy(decide: Decide): void
  /**
   * Whether a caller is allowed a permission on a resource, as handlers of every transport ask it.
   * Throws when no registered plugin decides about permissions.
   */
  can: Decide
  /** Tells every sink. Settles when they have; never rejects. */
  emit(event: SecurityEvent): Promise<void>
}

/** Whether a caller is allowed; `resource` is what conditions may ask about, and what it does not tell never widens. */
export type Decide = (
  principal: Principal,
  permission: PermissionName,
  resource?: Readonly<Record<string, unknown>>
) => boolean

class CompiledOperation implements GuardedOperation {
  readonly name: string
  readonly transport: Operation['transport']
  readonly rule: SecurityRule
  /** Not zero, which would let every call pass: an operation that could not be compiled refuses. */
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
