import { methodsOf, type Authentication } from './authentication.js'
import type { Call } from './call.js'
import { CredentialInvalid, Unauthenticated } from '../errors.js'
import { isPromise } from './is-promise.js'
import type { AuthFailureRun, Check, CheckRun, Operation, Stage, Verdict } from './operation.js'
import { ANONYMOUS, type AuthenticationMethod, type Principal } from '../principal.js'

/** Compiles the shortest list of checks for one operation, in the order of the stages. */
export function compilePipeline (
  operation: Operation,
  checks: readonly Check[],
  authentication: Authentication
): readonly CheckRun[] {
  const stage = (name: Stage): CheckRun[] => {
    return checks
      .filter(check => check.stage === name)
      .map(check => check.compile(operation))
      .filter(run => run !== null)
  }
  const onFailure = checks.map(check => check.compileOnAuthFailure?.(operation) ?? null).filter(run => run !== null)

  const runs = stage('admit')
  if (operation.rule.public !== true) runs.push(authenticationCheck(operation, authentication, onFailure))
  runs.push(...stage('throttle'), ...stage('authorize'))
  return runs
}

function authenticationCheck (
  operation: Operation,
  authentication: Authentication,
  onFailure: readonly AuthFailureRun[]
): CheckRun {
  const isOptional = operation.rule.authenticate === 'optional'
  const identify = identificationCheck(authentication, methodsOf(operation), isOptional)
  return onFailure.length === 0 ? identify : withFailureChecks(identify, onFailure)
}

/** Finds out who is calling. A principal that is already known (of a WebSocket) is only checked for validity. */
function identificationCheck (
  authentication: Authentication,
  methods: readonly AuthenticationMethod[] | undefined,
  isOptional: boolean
): CheckRun {
  const findPrincipal = (call: Call): Principal | Promise<Principal> | null => {
    const context = { address: call.address, requestId: call.id, request: call.request }
    if (call.token !== null) return authentication.authenticate(call.token, context, methods)
    return call.request === null ? null : authentication.identify(call.request, context, methods)
  }

  return call => {
    if (call.principal.kind !== 'anonymous') {
      const method = call.principal.authenticatedBy
      if (methods !== undefined && (method === null || !methods.includes(method))) return new Unauthenticated()
      const alive = authentication.isAlive(call.principal)
      return isPromise(alive) ? alive.then(isAlive => verdictOf(call, isAlive)) : verdictOf(call, alive)
    }
    const found = findPrincipal(call)
    if (found === null) return isOptional ? undefined : new Unauthenticated()
    if (isPromise(found)) return found.then(principal => { call.principal = principal })
    call.principal = found
  }
}

function verdictOf (call: Call, isAlive: boolean): Verdict {
  if (isAlive) return
  call.principal = ANONYMOUS
  return new CredentialInvalid()
}

/** Runs these checks instead of the throttle stage when authentication fails: guesses are limited by address. */
function withFailureChecks (identify: CheckRun, onFailure: readonly AuthFailureRun[]): CheckRun {
  const fail = async (call: Call, error: unknown): Promise<Verdict> => {
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
      if (!isPromise(answer)) return fail(call, answer)
      return answer.then(
        verdict => (verdict === undefined ? undefined : fail(call, verdict)),
        async (error: unknown) => await fail(call, error)
      )
    } catch (error) {
      return fail(call, error)
    }
  }
}
