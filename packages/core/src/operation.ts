import type { Call } from './call.js'
import type { SecurityRule } from './rule.js'

/** One thing that can be called: an HTTP route or a JSON-RPC method. */
export interface Operation {
  /** `GET /cameras/:id` or `take_snapshot`: the pattern, never the raw URL. */
  readonly name: string
  readonly transport: 'http' | 'rpc'
  readonly rule: SecurityRule
}

/** An operation whose checks are compiled: what a transport runs for each call. */
export interface GuardedOperation extends Operation {
  /**
   * Runs admit, authenticate, throttle and authorize. Returns nothing when every check answered
   * synchronously; throws or rejects with a coded error when one refuses.
   */
  run (call: Call): void | Promise<void>
  /**
   * The same for a transport that answers refusals itself: the error that refuses is the answer, undefined when nobody
   * does. Never throws or rejects, which costs more than all else does on the way of a refusal.
   */
  decide (call: Call): Verdict | Promise<Verdict>
  /**
   * Decides what {@link run} left in `call.pending`, with the arguments that loaders of the rule get. A transport that
   * makes calls with `canDefer` runs it before anything is done; it refuses as `run` does.
   */
  finish (call: Call, ...input: readonly unknown[]): void | Promise<void>
  /** Number of compiled checks; zero for a public operation without limits. */
  readonly checks: number
}

/** Undefined lets the call pass; an error refuses it. */
export type Verdict = Error | undefined

/** One compiled check. It throws a coded error to refuse, or returns it, which is the cheaper way when refusals are frequent. */
export type CheckRun = (call: Call) => Verdict | void | Promise<Verdict | void>

/** A compiled check of a call whose authentication failed; it refuses as {@link CheckRun} does. */
export type FailureRun = (call: Call, error: unknown) => Verdict | void | Promise<Verdict | void>

export type Stage = 'admit' | 'throttle' | 'authorize'

/** What a plugin adds to the guard. */
export interface Check {
  readonly name: string
  readonly stage: Stage
  /** Members of `SecurityRule` this check understands; a rule with a member nobody understands does not boot. */
  readonly keys: readonly string[]
  /**
   * Compiles the check for one operation, once, when the application is ready.
   * Null when the operation needs nothing of it. Throws `MARTY_CORE_RULE_INVALID` for a bad rule.
   */
  compile (operation: Operation): CheckRun | null
  /** For throttling: what runs instead when authentication failed, with the error that it failed with. */
  compileFailure? (operation: Operation): FailureRun | null
}
