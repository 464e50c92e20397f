import type { Call } from './call.js'
import { CredentialInvalid, Unauthenticated } from './errors.js'
import { invalidCredential, type Guard } from './guard.js'
import { MartyError } from './marty-error.js'
import type { Check, CheckRun, Operation, Stage } from './operation.js'
import { ANONYMOUS } from './principal.js'
import type { SecurityEventType } from './event.js'

/** Builds the shortest list of functions that decides one operation, and the runner over it. */
export function compilePipeline (guard: Guard, operation: Operation, checks: readonly Check[]): { run: CheckRun, checks: number } {
  const stage = (name: Stage): CheckRun[] => checks
    .filter(check => check.stage === name)
    .map(check => check.compile(operation))
    .filter(run => run !== null)
  const onFailure = checks.map(check => check.compileFailure?.(operation) ?? null).filter(run => run !== null)

  const runs = stage('admit')
  if (operation.rule.public !== true) runs.push(authenticate(guard, operation, onFailure))
  runs.push(...stage('throttle'), ...stage('authorize'))
  return { run: sequence(runs, guard), checks: runs.length }
}

/** Decides what is pending, and tells the sinks of a refusal. What is pending is asked once. */
export function finishCall (guard: Guard, call: Call, input: readonly unknown[]): void | Promise<void> {
  if (call.pending === null) return
  call.input = input
  return attempt(guard, call, settle)
}

function settle (call: Call): void | Promise<void> {
  const { pending } = call
  if (pending === null) return
  call.pending = null
  const answer = pending(call)
  return isPromise(answer) ? answer.then(() => settle(call)) : settle(call)
}

/** Runs checks in order, awaiting only promises, and tells the sinks of a refusal. */
function sequence (runs: readonly CheckRun[], guard: Guard): CheckRun {
  if (runs.length === 0) return () => {}
  const from = (call: Call, index: number): void | Promise<void> => {
    for (let i = index; i < runs.length; i++) {
      const { pending } = call
      if (pending !== null) {
        // What comes after an open decision, such as writing down that it was allowed, waits for it.
        call.pending = call => {
          const answer = pending(call)
          return isPromise(answer) ? answer.then(() => from(call, i)) : from(call, i)
        }
        return
      }
      const answer = runs[i]!(call)
      if (isPromise(answer)) return answer.then(() => from(call, i + 1))
    }
  }
  const start: CheckRun = call => from(call, 0)
  return call => attempt(guard, call, start)
}

function attempt (guard: Guard, call: Call, run: CheckRun): void | Promise<void> {
  try {
    const answer = run(call)
    return isPromise(answer) ? answer.catch(error => refuse(guard, call, error)) : undefined
  } catch (error) {
    refuse(guard, call, error)
  }
}

function refuse (guard: Guard, call: Call, error: unknown): never {
  const status = error instanceof MartyError ? error.statusCode : 500
  const type: SecurityEventType = status === 401 ? 'authentication' : status === 429 ? 'limit' : 'authorization'
  void guard.emit({
    type,
    action: call.operation.name,
    outcome: status === 401 ? 'failure' : 'denied',
    reason: error instanceof MartyError ? error.code : 'MARTY_CORE_CHECK_FAILED',
    principal: call.principal,
    address: call.address,
    requestId: call.id
  })
  throw error
}

/** Who is it? A principal that is already there (a WebSocket connection's) is asked only whether it is still valid. */
function authenticate (guard: Guard, operation: Operation, onFailure: readonly CheckRun[]): CheckRun {
  const methods = Array.isArray(operation.rule.authenticate) ? operation.rule.authenticate : undefined

  const identify = (call: Call): void | Promise<void> => {
    if (call.principal.kind !== 'anonymous') {
      const method = call.principal.authenticatedBy
      if (methods !== undefined && (method === null || !methods.includes(method))) throw unauthenticated()
      const alive = guard.isAlive(call.principal)
      return isPromise(alive) ? alive.then(answer => assertAlive(call, answer)) : assertAlive(call, alive)
    }
    const context = { address: call.address, requestId: call.id, request: call.request }
    const found = call.token !== null
      ? guard.authenticate(call.token, context, methods)
      : call.request === null ? null : guard.identify(call.request, context, methods)
    if (found === null) throw unauthenticated()
    if (isPromise(found)) return found.then(principal => { call.principal = principal })
    call.principal = found
  }
  if (onFailure.length === 0) return identify

  // A failed authentication still costs the caller: guessing is limited by address, in place of the throttle stage.
  const failed = async (call: Call, error: unknown): Promise<never> => {
    for (const run of onFailure) await run(call)
    throw error
  }
  return call => {
    try {
      const answer = identify(call)
      return isPromise(answer) ? answer.catch((error: unknown) => failed(call, error)) : answer
    } catch (error) {
      return failed(call, error)
    }
  }
}

function assertAlive (call: Call, alive: boolean): void {
  if (alive) return
  call.principal = ANONYMOUS
  throw new CredentialInvalid(invalidCredential)
}

function unauthenticated (): MartyError {
  return new Unauthenticated({ headers: { 'www-authenticate': 'Bearer' } })
}

function isPromise<T> (value: T | Promise<T>): value is Promise<T> {
  return typeof (value as Promise<T> | undefined)?.then === 'function'
}
