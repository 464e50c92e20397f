import { GENESIS, sealRecord, type ChainHead } from './chain.js'
import { AuditUnavailable } from './errors.js'
import { gapMarker } from './gap.js'
import type { AuditRecord } from './record.js'
import type { AuditSink } from './sink.js'

/** Puts records into the chain and the chain into the sink, in the order they came. */
export interface AuditWriter {
  /** Finds the end of an earlier run's chain. Throws when it cannot be continued. */
  open (): Promise<void>
  /** `sync`: settles when the record is safe, rejects with `MARTY_AUDIT_UNAVAILABLE`. `async`: settles at once. */
  write (record: AuditRecord): Promise<void>
  /** Writes what is left and closes the sink. */
  close (): Promise<void>
  state (): WriterState
}

export interface WriterState {
  /** Whether the last write succeeded. */
  readonly healthy: boolean
  /** Events of this run that were not written. */
  readonly lostEvents: number
  readonly lastError: string | null
  readonly queued: number
}

interface Waiting {
  readonly record: AuditRecord
  readonly settle: ((error: Error | null) => void) | null
}

export interface WriterOptions {
  readonly sink: AuditSink
  readonly mode: 'sync' | 'async'
  /** Told of each failed write. */
  readonly onError: (error: unknown, lostEvents: number) => void
}

/** Beyond, async events are lost (and counted, and told by a gap marker) rather than the process. */
const MAX_QUEUED = 50_000
const MAX_BATCH = 1_000
/** At most this much of async mode is lost with the process. */
const FLUSH_MS = 50

export function createAuditWriter ({ sink, mode, onError }: WriterOptions): AuditWriter {
  let queue: Waiting[] = []
  /** Null while nobody knows where the chain in the sink ends. */
  let head: ChainHead | null = null
  let lastGood: ChainHead = GENESIS
  let running: Promise<void> | null = null
  let timer: ReturnType<typeof setTimeout> | null = null
  let closed = false
  let healthy = true
  let lastError: string | null = null
  let lostEvents = 0
  let lostUntold = 0

  async function writeBatch (batch: readonly Waiting[]): Promise<void> {
    let lines = ''
    let next = head
    if (next === null) {
      const point = await sink.resume?.() ?? { head: lastGood, torn: Buffer.alloc(0) }
      next = point.head
      // The torn bytes lack their newline, or the marker would be torn with them.
      const ended = point.torn.length === 0 || point.torn.at(-1) === 0x0a ? point.torn : Buffer.concat([point.torn, Buffer.from('\n')])
      if (ended.length > point.torn.length) lines += '\n'
      if (ended.length > 0 || lostUntold > 0) append(gapMarker(ended, lostUntold))
    } else if (lostUntold > 0) {
      append(gapMarker(Buffer.alloc(0), lostUntold))
    }
    for (const { record } of batch) append(record)
    head = null
    if (lines !== '') await sink.write(lines)
    head = lastGood = next
    lostUntold = 0

    function append (record: object): void {
      const sealed = sealRecord(record, next!)
      lines += `${sealed.line}\n`
      next = sealed.head
    }
  }

  async function drain (): Promise<void> {
    while (queue.length > 0) {
      const batch = queue.slice(0, MAX_BATCH)
      queue = queue.slice(MAX_BATCH)
      let failure: Error | null = null
      try {
        await writeBatch(batch)
        healthy = true
        lastError = null
      } catch (cause) {
        failure = new AuditUnavailable({ cause })
        lose(batch.length, cause)
      }
      for (const { settle } of batch) settle?.(failure)
    }
  }

  function lose (events: number, cause: unknown): void {
    healthy = false
    lastError = cause instanceof Error ? ('code' in cause ? String(cause.code) : cause.message) : 'unknown error'
    lostEvents += events
    lostUntold += events
    onError(cause, lostEvents)
  }

  function start (): Promise<void> {
    running ??= drain().finally(() => {
      running = null
      if (queue.length > 0) void start()
    })
    return running
  }

  return {
    async open () {
      await writeBatch([])
    },

    write (record) {
      if (closed) return Promise.reject(new AuditUnavailable('The audit log has been closed'))
      if (mode === 'async') {
        if (queue.length >= MAX_QUEUED) {
          lose(1, new Error('the audit queue is full'))
          return Promise.resolve()
        }
        queue.push({ record, settle: null })
        if (queue.length >= MAX_BATCH) void start()
        else if (timer === null && running === null) timer = setTimeout(() => { timer = null; void start() }, FLUSH_MS)
        return Promise.resolve()
      }
      return new Promise((resolve, reject) => {
        queue.push({ record, settle: error => { if (error === null) resolve(); else reject(error) } })
        void start()
      })
    },

    async close () {
      if (closed) return
      closed = true
      if (timer !== null) clearTimeout(timer)
      while (queue.length > 0 || running !== null) await start()
      await sink.close?.()
    },

    state: () => ({ healthy, lostEvents, lastError, queued: queue.length })
  }
}
