import type { Call } from './call.js'
import { RuleInvalid } from '../errors.js'
import type { EventSinks } from './event-sinks.js'
import type { SecurityEventType } from './event.js'
import { isPromise } from './is-promise.js'
import { MartyError } from '../marty-error.js'
import type { CheckRun, GuardedOperation, Operation, Verdict } from './operation.js'
import type { SecurityRule } from '../rule.js'

/** An operation with its checks. It refuses every call until they are compiled. */
export class CompiledOperation implements GuardedOperation {
  readonly name: string
  readonly transport: Operation['transport']
  readonly rule: SecurityRule
  /** One until the checks are compiled: with zero, transports would let every call pass without a decision. */
  checks = 1
  readonly #sinks: EventSinks
  #runs: readonly CheckRun[] | null = null

  constructor (name: string, transport: Operation['transport'], rule: SecurityRule, sinks: EventSinks) {
    this.name = name
    this.transport = transport
    this.rule = rule
    this.#sinks = sinks
  }

  setChecks (runs: readonly CheckRun[]): void {
    this.#runs = runs
    this.checks = runs.length
  }

  decide (call: Call): Verdict | Promise<Verdict> {
    if (this.#runs === null) return new RuleInvalid(`${this.name} was called before the application was ready`)
    try {
      const answer = call.pending === null ? this.#run(this.#runs, call, 0) : this.#resume(this.#runs, call)
      if (answer === undefined) return
      if (!isPromise(answer)) return this.#refuse(call, answer)
      return answer.then(
        verdict => (verdict === undefined ? undefined : this.#refuse(call, verdict)),
        (error: unknown) => this.#refuse(call, error)
      )
    } catch (error) {
      return this.#refuse(call, error)
    }
  }

  /**
   * Runs the checks in order, from one on, and awaits only promises. Stops when a check leaves its decision pending:
   * the audit log, for example, must not record the call as allowed yet.
   */
  #run (runs: readonly CheckRun[], call: Call, from: number): ReturnType<CheckRun> {
    for (let i = from; i < runs.length; i++) {
      call.resumeAt = i + 1
      const answer = runs[i]!(call)
      if (answer === undefined) {
        if (call.pending !== null) return
      } else {
        if (!isPromise(answer) || i + 1 === runs.length) return answer
        return answer.then(verdict => {
          return verdict === undefined && call.pending === null ? this.#run(runs, call, i + 1) : verdict
        })
      }
    }
  }

  /** Makes the pending decision of a call whose input is known, and runs the checks behind it. */
  #resume (runs: readonly CheckRun[], call: Call): ReturnType<CheckRun> {
    const { pending } = call
    if (pending === null) return
    call.pending = null
    return ifPassed(pending(call), () => {
      // The decision may leave another one pending, and so may the checks behind it.
      if (call.pending !== null) return this.#resume(runs, call)
      return ifPassed(this.#run(runs, call, call.resumeAt), () => this.#resume(runs, call))
    })
  }

  #refuse (call: Call, error: unknown): Error {
    // If `decide` is called again for this refused call, all checks run again.
    call.pending = null
    const { code, statusCode, reason } = error instanceof MartyError ? error : UNEXPECTED
    void this.#sinks.emit({
      type: eventTypeOf(statusCode),
      action: this.name,
      outcome: statusCode === 401 ? 'failure' : 'denied',
      reason: code,
      principal: call.principal,
      address: call.address,
      requestId: call.id,
      ...(reason === undefined ? {} : { details: { reason } })
    })
    if (error instanceof Error) return error
    return new TypeError(`a check of ${this.name} returned a value that is not an error: a check returns nothing or an error`)
  }
}

/** Describes in the event an error that is a fault of a check, not a refusal. */
const UNEXPECTED = { code: 'MARTY_CORE_CHECK_FAILED', statusCode: 500, reason: undefined }

function eventTypeOf (statusCode: number): SecurityEventType {
  switch (statusCode) {
    case 401: return 'authentication'
    case 429: return 'limit'
    default: return 'authorization'
  }
}

function ifPassed (answer: ReturnType<CheckRun>, next: () => ReturnType<CheckRun>): ReturnType<CheckRun> {
  if (answer === undefined) return next()
  return isPromise(answer) ? answer.then(verdict => (verdict === undefined ? next() : verdict)) : answer
}
