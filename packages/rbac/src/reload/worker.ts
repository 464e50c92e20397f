import { createHash } from 'node:crypto'
import { parentPort } from 'node:worker_threads'
import type { SourceProblem } from '@marty/config'
import { PolicyInvalid } from '../errors.js'
import { lintPolicy } from '../analysis/lint.js'
import { loadAfter, NO_IDS, type Policy } from '../engine/policy.js'
import type { Ids } from '../engine/policy-index.js'
import { problemOf, textOf } from './origin.js'
import { packPolicy, type PackedPolicy } from './transfer.js'
import { firstProblems } from '../parse/policy.js'
import { expectedDecisions, testPolicy } from '../analysis/policy-tests.js'
import { unstatedGains } from './unstated-gains.js'

// The worker thread in which policies are read, compiled, compared with Casbin and tested, one at a time.

export interface PolicyText {
  /** UTF-8. */
  readonly bytes: Uint8Array
  readonly file: string
}

export interface WorkerTask extends PolicyText {
  /** Ids of the previous generation. */
  readonly known: Ids
  /** The expected SHA-256 of the text; null if it is not known. */
  readonly sha256: string | null
  /** A file of policy tests that must pass; null for none. */
  readonly tests: PolicyText | null
  /**
   * The policy in use, and the environments in which the new one must not grant more than the tests state;
   * null if there is no such limit.
   */
  readonly guard: GainGuard | null
}

export interface GainGuard {
  readonly inUse: PolicyText
  /** Names or aliases of environments. */
  readonly environments: readonly string[]
}

export type WorkerAnswer = { readonly packed: PackedPolicy, readonly problems: null } |
  { readonly packed: null, readonly problems: readonly SourceProblem[] }

/** Sent after the answer with a policy, unless another policy arrives soon. Nothing waits for it. */
export interface WorkerWarnings {
  readonly warnings: readonly SourceProblem[]
}

const MAX_WARNINGS = 20
/**
 * Delay before the policy is checked for probable mistakes. The check takes longer than compiling, and
 * someone who saves a policy is likely to save it again soon.
 */
const LINT_DELAY_MS = 1_000

let lintTimer: NodeJS.Timeout | undefined

parentPort!.on('message', (task: WorkerTask) => {
  clearTimeout(lintTimer)
  try {
    const policy = compile(task)
    const { packed, transfer } = packPolicy(policy, task.known)
    parentPort!.postMessage({ packed, problems: null } satisfies WorkerAnswer, transfer)
    lintTimer = setTimeout(() => {
      parentPort!.postMessage({ warnings: lintPolicy(policy).slice(0, MAX_WARNINGS) } satisfies WorkerWarnings)
    }, LINT_DELAY_MS)
  } catch (error) {
    if (!(error instanceof PolicyInvalid)) throw error
    parentPort!.postMessage({ packed: null, problems: error.problems } satisfies WorkerAnswer)
  }
})

function compile ({ bytes, file, known, sha256, tests, guard }: WorkerTask): Policy {
  if (sha256 !== null && createHash('sha256').update(bytes).digest('hex') !== sha256) {
    throw new PolicyInvalid([problemOf(file, `is not the text that was published: its sha256 is not ${sha256}`)])
  }
  const policy = loadAfter(textOf(bytes, file), file, known, { clock: Date.now, generation: 1 })
  if (tests !== null) {
    const { failures, problems } = testPolicy(policy, textOf(tests.bytes, tests.file), tests.file)
    if (failures.length + problems.length > 0) {
      throw new PolicyInvalid(firstProblems([...problems, ...failures], tests.file))
    }
  }
  if (guard !== null) {
    const { inUse, environments } = guard
    const before = loadAfter(textOf(inUse.bytes, inUse.file), inUse.file, NO_IDS, { clock: Date.now, generation: 1 })
    const stated = tests === null ? null : expectedDecisions(policy, textOf(tests.bytes, tests.file), tests.file)
    const gains = unstatedGains(before, policy, environments, stated)
    if (gains.length > 0) throw new PolicyInvalid(firstProblems(gains, file))
  }
  return policy
}
