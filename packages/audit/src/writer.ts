import { createHash } from 'node:crypto'
import { GENESIS, sealRecord, type ChainHead } from './chain.js'
import type { CheckpointLog } from './checkpoints/checkpoint-log.js'
import { AuditUnavailable } from './errors.js'
import { EventQueue, type QueuedEvent, type Settle } from './event-queue.js'
import { markerRecord, type Gap, type Unproven } from './own-records.js'
import type { AuditSink, ResumePoint } from './sinks/sink.js'
import { WriteAttempts } from './write-attempts.js'

export interface WriterState {
  /** Whether the last write succeeded. */
  readonly healthy: boolean
  /** Events of this run that were not written. */
  readonly lostEvents: number
  readonly lastError: string | null
  readonly queued: number
}

export interface WriterOptions {
  readonly sink: AuditSink
  readonly mode: 'sync' | 'async'
  readonly checkpoints: CheckpointLog | null
  /** Called for each failed write. */
  readonly onError: (error: unknown, lostEvents: number) => void
}

/** Where a write begins, and what it must write before the first event. */
interface WriteStart {
  readonly head: ChainHead
  /** Ends a half-written line, so that the marker is on a line of its own. */
  readonly preface: '' | '\n'
  readonly marker: string | null
}

/** Lines in the chain, ready to be written. */
interface Batch {
  readonly lines: string
  readonly end: ChainHead
  readonly events: readonly QueuedEvent[]
}

/** In async mode, at most this much time of events is lost with the process. */
const FLUSH_MS = 50
/** In async mode, events wait in the queue while the sink fails. This is the time between retries. */
const RETRY_MS = 500
const NEWLINE = 0x0a

/** Appends records to the chain and writes the chain to the sink, in the order of arrival. */
export class AuditWriter {
  readonly #sink: AuditSink
  readonly #mode: 'sync' | 'async'
  readonly #checkpoints: CheckpointLog | null
  readonly #onError: WriterOptions['onError']
  readonly #queue = new EventQueue()
  readonly #attempts = new WriteAttempts()
  /** The end of the chain in the sink; null while it is unknown. */
  #head: ChainHead | null = null
  /** The last known end of the chain. */
  #lastHead: ChainHead = GENESIS
  /** Records found in the sink that must be named before anything is signed. */
  #unproven: Unproven | null = null
  /** Callers that wait for the next checkpoint, whether signing succeeds or not. */
  #awaitingCheckpoint: Settle[] = []
  /** Number of events in the current write; 0 while the end of the chain is being determined. */
  #writing = 0
  /** Whether a write of this run has succeeded. */
  #hasWritten = false
  #draining: Promise<void> | null = null
  #writeTimer: ReturnType<typeof setTimeout> | null = null
  #checkpointTimer: ReturnType<typeof setTimeout> | null = null
  #isClosed = false
  #isHealthy = true
  #lastError: string | null = null
  #lostEvents = 0
  /** Lost events that no marker has reported yet. */
  #unreportedLosses = 0

  constructor ({ sink, mode, checkpoints, onError }: WriterOptions) {
    this.#sink = sink
    this.#mode = mode
    this.#checkpoints = checkpoints
    this.#onError = onError
  }

  /** Finds the end of the chain of an earlier run. Throws when that chain cannot be continued. */
  async open (): Promise<void> {
    try {
      await this.#writeBatch()
    } catch (error) {
      // An unavailable sink may recover; a log that cannot be continued will not.
      if (!(error instanceof AuditUnavailable)) throw error
      this.#handleFailure(error)
      return
    }
    await this.#drain()
  }

  /**
   * In `sync` mode, settles when the record is durable and rejects with `MARTY_AUDIT_UNAVAILABLE` when it cannot be
   * written. In `async` mode, resolves immediately. `json` is a non-empty object.
   */
  write (json: string): Promise<void> {
    return this.#enqueue(json, this.#mode === 'sync', false)
  }

  /** Settles when the record is durable and, if there are checkpoints, a checkpoint covers it. */
  writeSigned (json: string): Promise<void> {
    return this.#enqueue(json, true, true)
  }

  #enqueue (json: string, wait: boolean, needsCheckpoint: boolean): Promise<void> {
    if (this.#isClosed) return Promise.reject(new AuditUnavailable('The audit log has been closed'))
    if (!wait) {
      if (this.#queue.add({ json, needsCheckpoint, settle: null })) this.#flushSoon()
      else this.#refuse()
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const settle: Settle = error => { if (error === null) resolve(); else reject(error) }
      if (this.#queue.add({ json, needsCheckpoint, settle })) void this.#drain()
      else reject(this.#refuse())
    })
  }

  /** Counts an event that does not fit into the queue. */
  #refuse (): Error {
    const full = new AuditUnavailable('More events are waiting to be written than the audit log can hold')
    this.#lose(1, full)
    return full
  }

  #flushSoon (): void {
    if (this.#draining !== null) return
    if (this.#queue.isDue && this.#isHealthy) void this.#drain()
    else this.#drainIn(FLUSH_MS)
  }

  #drainIn (ms: number): ReturnType<typeof setTimeout> {
    this.#writeTimer ??= setTimeout(() => {
      this.#writeTimer = null
      void this.#drain()
    }, ms)
    return this.#writeTimer
  }

  /** Writes what is due, or fails. Never rejects. Events that no caller waits for are collected for the next flush. */
  #drain (): Promise<void> {
    this.#draining ??= this.#writeAll().finally(() => {
      this.#draining = null
      // Events may have arrived while the last write ended. If the sink failed, the timer starts the retry.
      if (this.#queue.length > 0 && this.#writeTimer === null && !this.#isClosed) this.#flushSoon()
    })
    return this.#draining
  }

  async #writeAll (): Promise<void> {
    do {
      try {
        await this.#writeBatch()
        this.#isHealthy = true
        this.#lastError = null
      } catch (cause) {
        if (this.#handleFailure(cause) === 'kept') return
      }
      await this.#signIfDue()
      this.#settleSigned()
    } while (this.#queue.isDue || (this.#isClosed && this.#queue.length > 0))
    this.#scheduleCheckpoint()
  }

  /** Writes the first events of the queue and removes them from it. Throws when the write fails. */
  async #writeBatch (): Promise<void> {
    this.#writing = 0
    const start = await this.#startOfWrite()
    const reportedLosses = this.#unreportedLosses
    const { lines, end, events } = this.#seal(start, reportedLosses)
    this.#writing = events.length
    if (lines !== '') {
      this.#head = null
      await this.#sink.write(lines, start.head, end)
      if (events.some(({ settle }) => settle !== null)) await this.#sink.sync?.()
    }
    this.#head = this.#lastHead = end
    this.#hasWritten = true
    this.#unreportedLosses -= reportedLosses
    this.#unproven = null
    this.#attempts.succeed()
    for (const { settle, needsCheckpoint } of this.#queue.take(events.length)) {
      if (needsCheckpoint) this.#awaitingCheckpoint.push(settle!)
      else settle?.(null)
    }
  }

  async #startOfWrite (): Promise<WriteStart> {
    if (this.#head === null) {
      const start = await this.#resume()
      this.#head = start.head
      return start
    }
    const gap = { tornBytes: 0, tornSha256: null, lostEvents: this.#unreportedLosses }
    return { head: this.#head, preface: '', marker: this.#unreportedLosses > 0 ? markerRecord(gap, null) : null }
  }

  /** Appends the marker and the first events of the queue to the chain. */
  #seal ({ head, preface, marker }: WriteStart, reportedLosses: number): Batch {
    let lines: string = preface
    let end = head
    const append = (json: string): string => {
      const sealed = sealRecord(json, end)
      lines += `${sealed.line}\n`
      end = sealed.head
      return end.hash
    }
    const markerHash = marker === null ? null : append(marker)
    const events = this.#queue.batch()
    this.#attempts.begin({ marker: markerHash, events: events.map(({ json }) => append(json)), reportedLosses })
    return { lines, end, events }
  }

  /** Determines where the chain continues, and the marker that must be written there first. */
  async #resume (): Promise<WriteStart> {
    const point: ResumePoint = (await this.#sink.resume?.()) ?? { head: this.#lastHead, torn: Buffer.alloc(0) }
    const { head } = point
    const signed = (await this.#checkpoints?.resume(head)) ?? null
    if (signed !== null) this.#findUnproven(head, signed)
    this.#dropWritten(head)
    this.#lastHead = head
    const preface = point.torn.length === 0 || point.torn.at(-1) === NEWLINE ? '' : '\n'
    const gap = this.#gapAt(point, preface)
    const marker = gap === null && this.#unproven === null ? null : markerRecord(gap, this.#unproven)
    return { head, preface, marker }
  }

  /**
   * Records in the sink after the last checkpoint (`signed`) are proven only if this run wrote them; the others are
   * unproven.
   */
  #findUnproven (end: ChainHead, signed: ChainHead): void {
    if (this.#lastHead.hash === end.hash || this.#attempts.mayHaveWritten(end.hash)) return
    if (end.hash === signed.hash && this.#lastHead.seq <= end.seq) return
    const writtenSeq = Math.max(this.#lastHead.seq, this.#unproven?.writtenSeq ?? 0)
    this.#unproven = { after: signed, last: end, writtenSeq }
  }

  /** After a failed write, drops the events that have reached the sink nevertheless, so that none is written twice. */
  #dropWritten ({ hash }: ChainHead): void {
    const attempt = this.#attempts.reconcile(hash)
    if (attempt === null) return
    this.#unreportedLosses -= attempt.reportedLosses
    this.#unproven = null
    // In sync mode, failed events have left the queue already.
    if (this.#mode === 'async') this.#queue.take(attempt.written)
  }

  /** What is missing at the end of the chain; null when nothing is. */
  #gapAt ({ torn, orderly }: ResumePoint, preface: string): Gap | null {
    const wasKilled = !this.#hasWritten && orderly === false
    if (torn.length === 0 && !wasKilled && this.#unreportedLosses === 0) return null
    const bytes = Buffer.concat([torn, Buffer.from(preface)])
    return {
      tornBytes: bytes.length,
      tornSha256: bytes.length === 0 ? null : createHash('sha256').update(bytes).digest('hex'),
      lostEvents: wasKilled ? null : this.#unreportedLosses
    }
  }

  /** Rejects the callers that wait. Events that no caller waits for stay in the queue and are retried until close. */
  #handleFailure (cause: unknown): 'kept' | 'given up' {
    this.#isHealthy = false
    this.#lastError = describeCause(cause)
    if (this.#mode === 'async' && !this.#isClosed) {
      this.#lose(0, cause)
      this.#drainIn(RETRY_MS).unref()
      return 'kept'
    }
    // While the end of the chain is unknown, reject all waiting callers together: one by one, they would wait too long.
    const events = this.#queue.take(this.#writing > 0 ? this.#writing : this.#queue.length)
    this.#lose(events.length, cause)
    for (const { settle } of events) settle?.(new AuditUnavailable({ cause }))
    return 'given up'
  }

  #lose (events: number, cause: unknown): void {
    this.#lostEvents += events
    this.#unreportedLosses += events
    this.#onError(cause, this.#lostEvents)
  }

  async #signIfDue (): Promise<void> {
    if (this.#head === null) return
    if (this.#awaitingCheckpoint.length > 0 || this.#checkpoints?.isDue(this.#head) === true) {
      await this.signEnd(this.#head)
    }
  }

  #settleSigned (): void {
    const isUnsigned = this.#head !== null && this.#checkpoints?.isBehind(this.#head) === true
    const error = isUnsigned ? new AuditUnavailable('No checkpoint of the audit log could be signed') : null
    for (const settle of this.#awaitingCheckpoint) settle(error)
    this.#awaitingCheckpoint = []
  }

  /** Signs the end of a file, which must be complete and durable. */
  async signEnd (end: ChainHead): Promise<void> {
    // Unproven records must be named before a checkpoint covers them, also when their file is full.
    if (this.#unproven !== null || this.#checkpoints?.isBehind(end) !== true) return
    try {
      await this.#sink.sync?.()
      await this.#checkpoints.sign(end)
    } catch (error) {
      this.#onError(error, this.#lostEvents)
    }
  }

  /** Signs the last records when their time comes, although no further event starts a write. */
  #scheduleCheckpoint (): void {
    if (this.#checkpointTimer !== null || this.#isClosed || this.#head === null) return
    if (this.#checkpoints?.isBehind(this.#head) !== true) return
    this.#checkpointTimer = setTimeout(() => {
      this.#checkpointTimer = null
      void this.#drain()
    }, this.#checkpoints.everyMs).unref()
  }

  /** Writes the waiting records and closes the sink. */
  async close (): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    if (this.#writeTimer !== null) clearTimeout(this.#writeTimer)
    if (this.#checkpointTimer !== null) clearTimeout(this.#checkpointTimer)
    this.#writeTimer = this.#checkpointTimer = null
    while (this.#queue.length > 0 || this.#draining !== null) await this.#drain()
    // Write the marker for what the last write lost or found, if the sink works again.
    if (this.#head === null && this.#hasWritten) {
      await this.#writeBatch().catch((error: unknown) => { this.#onError(error, this.#lostEvents) })
    }
    if (this.#head !== null) await this.signEnd(this.#head)
    await this.#sink.close?.()
  }

  state (): WriterState {
    return {
      healthy: this.#isHealthy,
      lostEvents: this.#lostEvents,
      lastError: this.#lastError,
      queued: this.#queue.length
    }
  }
}

function describeCause (cause: unknown): string {
  if (!(cause instanceof Error)) return 'unknown error'
  return 'code' in cause ? String(cause.code) : cause.message
}
