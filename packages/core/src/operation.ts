import type { Call } from './call.js'
import type { SecurityRule } from './rule.js'

/** Something that can be called: an HTTP route or a JSON-RPC method. */
export interface Operation {
  /** `GET /cameras/:id` or `take_snapshot`: the pattern, never the raw URL. */
  readonly name: string
  readonly transport: 'http' | 'rpc'
  readonly rule: SecurityRule
}

/** An operation with its compiled checks. A transport runs them for each call. */
export interface GuardedOperation extends Operation {
  /**
   * Runs the stages admit, authenticate, throttle and authorize. Returns undefined when every check passed
   * synchronously; throws or rejects with a coded error when a check refuses.
   */
  run (call: Call): void | Promise<void>
  /**
   * Like {@link run}, for a transport that answers refusals itself: returns the error of the check that refuses, or
   * undefined when all pass. It never throws or rejects, because that would be the most expensive part of a refusal.
   */
  decide (call: Call): Verdict | Promise<Verdict>
  /**
   * Runs the check that {@link run} left in `call.pending`, with the arguments for the rule's loaders. A transport that
   * creates calls with `canDefer` must run it before it carries out the operation. It refuses as `run` does.
   */
  finish (call: Call, ...input: readonly unknown[]): void | Promise<void>
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
export type FailureRun = (call: Call, error: unknown) => Verdict | void | Promise<Verdict | void>

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
  compileFailure? (operation: Operation): FailureRun | null
}
