import type { Call } from './call.js'
import { CredentialInvalid, Unauthenticated } from './errors.js'
import type { Guard } from './guard.js'
import { MartyError } from './marty-error.js'
import type { Check, CheckRun, FailureRun, GuardedOperation, Operation, Stage, Verdict } from './operation.js'
import { ANONYMOUS, type AuthenticationMethod } from './principal.js'
import type { SecurityEventType } from './event.js'

/** Builds the shortest list of check functions for one operation, and the function that runs them. */
export function compilePipeline (
  guard: Guard,
  operation: Operation,
  checks: readonly Check[]
): { decide: GuardedOperation['decide'], checks: number } {
  const stage = (name: Stage): CheckRun[] =>
    checks
      .filter(check => check.stage === name)
      .map(check => check.compile(operation))
      .filter(run => run !== null)
  const onFailure = checks.map(check => check.compileFailure?.(operation) ?? null).filter(run => run !== null)

  const runs = stage('admit')
  if (operation.rule.public !== true) runs.push(authenticate(guard, operation, onFailure))
  runs.push(...stage('throttle'), ...stage('authorize'))
  return { decide: sequence(runs, guard), checks: runs.length }
}

/** Runs the pending check, once, and emits an event when it refuses. */
export function finishCall (guard: Guard, call: Call, input: readonly unknown[]): Verdict | Promise<Verdict> {
  if (call.pending === null) return
  call.input = input
  return attempt(guard, call, settle)
}

/** Throws the refusal, for callers that must not overlook it. */
export function orThrow (verdict: Verdict | Promise<Verdict>): void | Promise<void> {
  if (verdict === undefined) return
  if (isPromise(verdict)) return verdict.then(orThrow)
  throw verdict
}

function settle (call: Call): ReturnType<CheckRun> {
  const { pending } = call
  if (pending === null) return
  call.pending = null
  const answer = pending(call)
  if (answer === undefined) return settle(call)
  return isPromise(answer) ? answer.then(verdict => verdict === undefined ? settle(call) : verdict) : answer
}

/** Runs the checks in order, awaits only promises, and emits an event when a check refuses. */
function sequence (runs: readonly CheckRun[], guard: Guard): GuardedOperation['decide'] {
  const from = (call: Call, index: number): ReturnType<CheckRun> => {
    for (let i = index; i < runs.length; i++) {
      const { pending } = call
      if (pending !== null) {
        // Later checks wait for a pending decision: the audit log, for example, must not record the call as allowed
        // yet.
        call.pending = call => {
          const answer = pending(call)
          if (answer === undefined) return from(call, i)
          return isPromise(answer) ? answer.then(verdict => verdict === undefined ? from(call, i) : verdict) : answer
        }
        return
      }
      const answer = runs[i]!(call)
      if (answer === undefined) continue
      return isPromise(answer) && i + 1 < runs.length
        ? answer.then(verdict => (verdict === undefined ? from(call, i + 1) : verdict))
        : answer
    }
  }
  const start: CheckRun = call => from(call, 0)
  return call => attempt(guard, call, start)
}

function attempt (guard: Guard, call: Call, run: CheckRun): Verdict | Promise<Verdict> {
  try {
    const answer = run(call)
    if (answer === undefined) return
    return isPromise(answer)
      ? answer.then(
        verdict => (verdict === undefined ? undefined : refused(guard, call, verdict)),
        (error: unknown) => refused(guard, call, error)
      )
      : refused(guard, call, answer)
  } catch (error) {
    return refused(guard, call, error)
  }
}

function refused (guard: Guard, call: Call, error: unknown): Error {
  const status = error instanceof MartyError ? error.statusCode : 500
  const why = error instanceof MartyError ? error.reason : undefined
  const type: SecurityEventType = status === 401 ? 'authentication' : status === 429 ? 'limit' : 'authorization'
  void guard.emit({
    type,
    action: call.operation.name,
    outcome: status === 401 ? 'failure' : 'denied',
    reason: error instanceof MartyError ? error.code : 'MARTY_CORE_CHECK_FAILED',
    principal: call.principal,
    address: call.address,
    requestId: call.id,
    ...(why === undefined ? {} : { details: { reason: why } })
  })
  return error instanceof Error
    ? error
    : new TypeError(`A check of ${call.operation.name} answered with something that is no error: it can only refuse`)
}

/** Authenticates the caller. A principal that is already known (of a WebSocket) is only checked for validity. */
function authenticate (guard: Guard, operation: Operation, onFailure: readonly FailureRun[]): CheckRun {
  const methods = methodsOf(operation)

  const identify = (call: Call): ReturnType<CheckRun> => {
    if (call.principal.kind !== 'anonymous') {
      const method = call.principal.authenticatedBy
      if (methods !== undefined && (method === null || !methods.includes(method))) return new Unauthenticated()
      const alive = guard.isAlive(call.principal)
      return isPromise(alive) ? alive.then(answer => verdictOf(call, answer)) : verdictOf(call, alive)
    }
    const context = { address: call.address, requestId: call.id, request: call.request }
    const found = call.token !== null
      ? guard.authenticate(call.token, context, methods)
      : call.request === null ? null : guard.identify(call.request, context, methods)
    if (found === null) return new Unauthenticated()
    if (isPromise(found)) return found.then(principal => { call.principal = principal })
    call.principal = found
  }
  if (onFailure.length === 0) return identify

  // A failed authentication counts too: guesses are limited by address, in place of the throttle stage.
  const failed = async (call: Call, error: unknown): Promise<Verdict> => {
    for (const run of onFailure) {
      const verdict = await run(call, error)
      if (verdict !== undefined) return verdict
    }
    throw error
  }
  return call => {
    try {
      const answer = identify(call)
      if (answer === undefined) return
      return isPromise(answer)
        ? answer.then(
          verdict => (verdict === undefined ? undefined : failed(call, verdict)),
          async (error: unknown) => await failed(call, error)
        )
        : failed(call, answer)
    } catch (error) {
      return failed(call, error)
    }
  }
}

/** The authentication methods that the operation's rule names; undefined when any method is accepted. */
export function methodsOf ({ rule }: Operation): readonly AuthenticationMethod[] | undefined {
  return Array.isArray(rule.authenticate) ? rule.authenticate : undefined
}

function verdictOf (call: Call, alive: boolean): Verdict {
  if (alive) return
  call.principal = ANONYMOUS
  return new CredentialInvalid()
}

function isPromise<T> (value: T | Promise<T>): value is Promise<T> {
  return typeof (value as Promise<T> | undefined)?.then === 'function'
}
