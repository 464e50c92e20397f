import type { Call } from './call.js'
import type { SecurityRule } from '../rule.js'

/** Something that can be called: an HTTP route or a JSON-RPC method. */
export interface Operation {
  /** `GET /cameras/:id` or `take_snapshot`: the pattern, never the raw URL. */
  readonly name: string
  readonly transport: 'http' | 'rpc'
  readonly rule: SecurityRule
}

/** An operation with its compiled checks. A transport lets them decide each call. */
export interface GuardedOperation extends Operation {
  /**
   * Runs the stages admit, authenticate, throttle and authorize. Returns the error of the check that refuses, or
   * undefined when all pass; a promise only when a check is asynchronous. It never throws or rejects, because that
   * would be the most expensive part of a refusal.
   *
   * A transport that creates calls with `canDefer` must look at `call.pending` afterwards. If it is set, a decision
   * waits for the input: read it, set `call.input`, and call `decide` again before you carry out the operation. The
   * second call makes the pending decision and runs the checks behind it.
   */
  decide (call: Call): Verdict | Promise<Verdict>
  /** Number of compiled checks; zero for a public operation without limits. */
  readonly checks: number
}

/** Undefined lets the call pass; an error refuses it. */
export type Verdict = Error | undefined

/**
 * One compiled check. To refuse, it throws or returns a coded error; returning is cheaper when refusals are frequent.
 */
export type CheckRun = (call: Call) => Verdict | void | Promise<Verdict | void>

/** A compiled check for calls whose authentication failed. It refuses as {@link CheckRun} does. */
export type AuthFailureRun = (call: Call, error: unknown) => Verdict | void | Promise<Verdict | void>

export type Stage = 'admit' | 'throttle' | 'authorize'

/** What a plugin adds to the guard. */
export interface Check {
  readonly name: string
  readonly stage: Stage
  /**
   * Members of `SecurityRule` that this check understands. A rule with a member that no check knows stops the start.
   */
  readonly keys: readonly string[]
  /**
   * Compiles the check for one operation, once, when the application is ready. Returns null when the operation does not
   * need this check. Throws `MARTY_CORE_RULE_INVALID` for an invalid rule.
   */
  compile (operation: Operation): CheckRun | null
  /** For throttling: compiles the check that runs instead when authentication fails. It gets the error. */
  compileOnAuthFailure? (operation: Operation): AuthFailureRun | null
  /** For reports: what this check does for an operation, with the options of its plugin taken into account. */
  describe? (operation: Operation): OperationFacts
}

/** What checks say about an operation. Packages add their own members by augmenting this interface. */
export interface OperationFacts {}

/** An operation, where it was declared, and what every check says about it. */
export interface OperationReport extends Operation, OperationFacts {
  /** The source line that declared it, such as `/app/src/routes.js:12:5`; null when it is not known. */
  readonly place: string | null
}
