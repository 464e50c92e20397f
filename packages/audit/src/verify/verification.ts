import type { KeyObject } from 'node:crypto'
import type { ChainHead } from '../chain.js'
import type { SignedCheckpoint } from '../checkpoints/checkpoint.js'
import type { CheckpointFault } from '../checkpoints/checkpoint-verifier.js'
import type { AuditPlace } from '../entries.js'
import type { FaultKind } from '../fault.js'

export interface VerifyOptions {
  /**
   * The Ed25519 public keys that verify the checkpoints, as KeyObjects or PEM. Without a key, checkpoints are
   * compared but their signatures are not checked.
   */
  readonly publicKey?: KeyObject | string | ReadonlyArray<KeyObject | string>
  /** @default `<log>.heads` */
  readonly checkpointsFile?: string
  /** Checkpoints that were stored elsewhere. */
  readonly checkpoints?: readonly SignedCheckpoint[]
  /**
   * `lastHash` of unproven ranges that have been investigated: they are listed, but are
   * not a fault. A hash covers all records before it too.
   * @default []
   */
  readonly acceptUnproven?: readonly string[]
}

export type AuditFaultKind = FaultKind | CheckpointFault['kind'] | 'torn' | 'start-unsigned'

export interface AuditFault extends AuditPlace {
  /**
   * `edited`, `deleted`, `inserted`, `reordered`, `duplicated`: what was done to the log. `truncated`: a signed
   * checkpoint covers records after the end of the log. `checkpoint-mismatch`: a checkpoint covers a different record
   * at this place. `checkpoint-forged`: the key did not sign this checkpoint. `checkpoint-missing`: a key was given, but
   * there is no checkpoint. Warnings: `torn`, the last line was being written when the process died; `start-unsigned`,
   * older records were deleted, and without a key nothing proves who did it.
   */
  readonly kind: AuditFaultKind
  /** What the fault means and what to do. */
  readonly message: string
}

/** Records that the next run found, had not written, and named: no signature made before that proves who wrote them. */
export interface AuditUnprovenRange {
  readonly firstSeq: number
  /** Less than `firstSeq` when no record was found but some were removed. */
  readonly lastSeq: number
  /** The hash of record `lastSeq`. */
  readonly lastHash: string
  /**
   * Number of records after `lastSeq` that the run which names the range had written,
   * and that were missing afterwards.
   */
  readonly removed: number
  /**
   * Whether they come after a signed orderly end, where no run writes. Otherwise a crash may have left them unsigned.
   */
  readonly afterStop: boolean
  /** The place of the first of them or, if it was removed, of the record that names them. */
  readonly first: AuditPlace
  /** The record that names them; null when no run has started since. */
  readonly namedBy: AuditPlace | null
}

export interface AuditVerified {
  readonly ok: true
  readonly records: number
  /** In the order in which they were read. */
  readonly files: readonly string[]
  /** Places where a gap marker records that something was lost. */
  readonly gaps: readonly AuditPlace[]
  /** The end of the chain. */
  readonly head: ChainHead
  /**
   * The last record that a checkpoint with a valid signature covers; null when there is none. Later records are not proven.
   */
  readonly signedSeq: number | null
  /** Unproven ranges that `acceptUnproven` accepts. */
  readonly unproven: readonly AuditUnprovenRange[]
  readonly warnings: readonly AuditFault[]
}

/**
 * Nothing contradicts the log, but some records are not proven to be genuine. The place is that of the first of them.
 */
export interface AuditUnproven extends Omit<AuditVerified, 'ok'>, AuditPlace {
  readonly ok: false
  readonly kind: 'unproven'
  readonly message: string
}

/** The first bad record. */
export interface AuditBroken extends AuditFault {
  readonly ok: false
  /** Good records before it. */
  readonly records: number
}

export type AuditVerification = AuditVerified | AuditUnproven | AuditBroken
