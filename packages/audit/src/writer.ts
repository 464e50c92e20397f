import { createHash } from 'node:crypto'
import { GENESIS, sealRecord, type ChainHead } from './chain.js'
import { AuditUnavailable } from './errors.js'
import type { HeadLog } from './head-log.js'
import { markerRecord, type Unproven } from './own-records.js'
import type { AuditSink, ResumePoint } from './sink.js'

/** Appends records to the chain and writes the chain to the sink, in the order of arrival. */
export interface AuditWriter {
  /** Finds the end of the chain of an earlier run. Throws when that chain cannot be continued. */
  open (): Promise<void>
  /**
   * With `wait`, settles when the record is durable and rejects with `MARTY_AUDIT_UNAVAILABLE`. Without it, settles
   * immediately. `json` is a non-empty object.
   */
  write (json: string, wait?: boolean): Promise<void>
  /** Settles when the record is durable and, if there are heads, a head covers it. */
  writeSigned (json: string): Promise<void>
  /** Signs the end of a file, which must be complete and durable. */
  signEnd (head: ChainHead): Promise<void>
  /** Writes the waiting records and closes the sink. */
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
  readonly json: string
  /** Set for a record that settles only when a head covers it. */
  readonly signed?: true
  readonly settle: ((error: Error | null) => void) | null
}

/**
 * The hashes after the marker and after each event of one write, and the number of lost
 * events that the marker reports.
 */
interface Attempt {
  readonly marker: string | null
  readonly events: readonly string[]
  readonly told: number
}

const NO_ATTEMPT: Attempt = { marker: null, events: [], told: 0 }

export interface WriterOptions {
  readonly sink: AuditSink
  readonly mode: 'sync' | 'async'
  readonly heads: HeadLog | null
  /** Called for each failed write. */
  readonly onError: (error: unknown, lostEvents: number) => void
}

/**
 * Bounds the memory of the queue. Beyond it, events are refused, or lost and counted (a gap marker reports them), so
 * that the process does not run out of memory.
 */
const MAX_QUEUED_CHARS = 32 * 1024 * 1024
const MAX_BATCH = 1_000
const MAX_BATCH_CHARS = 1024 * 1024
/** In async mode, at most this much time of events is lost with the process. */
const FLUSH_MS = 50
/** In async mode, events wait in the queue while the sink fails. This is the time between retries. */
const RETRY_MS = 500
/** Maximum number of remembered failed writes that may still be carried out late. */
const MAX_IN_DOUBT = 100

export function createAuditWriter ({ sink, mode, heads, onError }: WriterOptions): AuditWriter {
  const queue: Waiting[] = []
  let queuedChars = 0
  /** The end of the chain in the sink; null while it is unknown. */
  let head: ChainHead | null = null
  let lastGood: ChainHead = GENESIS
  /** The content of the last write. If that write fails, some of it may be in the sink nevertheless. */
  let attempt: Attempt = NO_ATTEMPT
  /** The ends of earlier failed writes: Redis may execute a command late. */
  let inDoubt: string[] = []
  /** Records found in the sink that must be named before anything is signed. */
  let unproven: Unproven | null = null
  /** Callers that wait for the next head, whether signing succeeds or not. */
  let toSign: Array<NonNullable<Waiting['settle']>> = []
  /** Number of events in the current write; 0 while the end of the chain is being determined. */
  let writing = 0
  let resumed = false
  let running: Promise<void> | null = null
  let timer: ReturnType<typeof setTimeout> | null = null
  let headTimer: ReturnType<typeof setTimeout> | null = null
  let closed = false
  let healthy = true
  let lastError: string | null = null
  let lostEvents = 0
  let lostUntold = 0

  /** Determines where the chain continues, and the marker that must be written there first. */
  async function resume (): Promise<{
    readonly end: ChainHead
    readonly preface: string
    readonly marker: string | null
  }> {
    const point: ResumePoint = (await sink.resume?.()) ?? { head: lastGood, torn: Buffer.alloc(0) }
    const vouched = (await heads?.resume(point.head)) ?? null
    if (vouched !== null) doubt(point.head, vouched)
    settleAttempt(point.head.hash)
    lastGood = point.head
    // End the torn bytes with a newline, so that the marker is on a line of its own.
    const preface = point.torn.length === 0 || point.torn.at(-1) === 0x0a ? '' : '\n'
    const torn = preface === '' ? point.torn : Buffer.concat([point.torn, Buffer.from(preface)])
    const died = !resumed && point.orderly === false
    const isGap = torn.length > 0 || died || lostUntold > 0
    if (!isGap && unproven === null) return { end: point.head, preface, marker: null }
    const tornSha256 = torn.length === 0 ? null : createHash('sha256').update(torn).digest('hex')
    const gap = isGap ? { tornBytes: torn.length, tornSha256, lostEvents: died ? null : lostUntold } : null
    return { end: point.head, preface, marker: markerRecord(gap, unproven) }
  }

  /** Records in the sink after the last head are proven only if this run wrote them; notes the others as unproven. */
  function doubt (end: ChainHead, vouched: ChainHead): void {
    const { marker, events } = attempt
    if ([lastGood.hash, marker, ...events, ...inDoubt].includes(end.hash)) return
    if (end.hash === vouched.hash && lastGood.seq <= end.seq) return
    unproven = { after: vouched, last: end, writtenSeq: Math.max(lastGood.seq, unproven?.writtenSeq ?? 0) }
  }

  /**
   * After a failed write, drops the events that have reached the sink after all, so that they are not written twice.
   */
  function settleAttempt (end: string): void {
    const { marker, events, told } = attempt
    const there = events.indexOf(end)
    if (there === -1 && end !== marker) {
      const last = events.at(-1) ?? marker
      if (last !== null && !inDoubt.includes(last)) inDoubt = [...inDoubt.slice(1 - MAX_IN_DOUBT), last]
      return
    }
    lostUntold -= told
    unproven = null
    if (mode === 'async') take(there + 1)
    attempt = NO_ATTEMPT
  }

  /** Writes the first events of the queue and removes them from it. Throws when the write fails. */
  async function writeBatch (): Promise<void> {
    let lines = ''
    let marker: string | null = null
    writing = 0
    if (head === null) {
      const point = await resume()
      head = point.end
      lines = point.preface
      marker = point.marker
    } else if (lostUntold > 0) {
      marker = markerRecord({ tornBytes: 0, tornSha256: null, lostEvents: lostUntold }, null)
    }
    const from = head
    let next = from
    if (marker !== null) append(marker)
    const markerEnd = marker === null ? null : next.hash
    const told = lostUntold
    const events: string[] = []
    for (let chars = 0; events.length < queue.length && events.length < MAX_BATCH && chars < MAX_BATCH_CHARS;) {
      const { json } = queue[events.length]!
      append(json)
      events.push(next.hash)
      chars += json.length
    }
    attempt = { marker: markerEnd, events, told }
    writing = events.length
    if (lines !== '') {
      head = null
      await sink.write(lines, from, next)
      if (queue.slice(0, events.length).some(({ settle }) => settle !== null)) await sink.sync?.()
    }
    head = lastGood = next
    resumed = true
    lostUntold -= told
    attempt = NO_ATTEMPT
    unproven = null
    inDoubt = []
    for (const { settle, signed } of take(events.length)) {
      if (signed === true) toSign.push(settle!)
      else settle?.(null)
    }

    function append (json: string): void {
      const sealed = sealRecord(json, next)
      lines += `${sealed.line}\n`
      next = sealed.head
    }
  }

  function take (events: number): Waiting[] {
    const taken = queue.splice(0, events)
    for (const { json } of taken) queuedChars -= json.length
    return taken
  }

  async function drain (): Promise<void> {
    do {
      try {
        await writeBatch()
        healthy = true
        lastError = null
      } catch (cause) {
        if (fail(cause) === 'kept') return
      }
      if (head !== null && (toSign.length > 0 || heads?.isDue(head) === true)) await signEnd(head)
      settleSigned()
    } while (queue.length > 0)
    watchHead()
  }

  function settleSigned (): void {
    const error =
      head !== null && heads?.isBehind(head) === true
        ? new AuditUnavailable('No head of the audit log could be signed')
        : null
    for (const settle of toSign) settle(error)
    toSign = []
  }

  /** Rejects the callers that wait. Events that no caller waits for stay in the queue and are retried until close. */
  function fail (cause: unknown): 'kept' | 'given up' {
    healthy = false
    lastError = wordFor(cause)
    if (mode === 'async' && !closed) {
      lose(0, cause)
      later(RETRY_MS).unref()
      return 'kept'
    }
    // While the end of the chain is unknown, reject all waiting callers together: one by one, they would wait too long.
    const given = take(writing > 0 ? writing : queue.length)
    lose(given.length, cause)
    for (const { settle } of given) settle?.(new AuditUnavailable({ cause }))
    return 'given up'
  }

  function lose (events: number, cause: unknown): void {
    lostEvents += events
    lostUntold += events
    onError(cause, lostEvents)
  }

  async function signEnd (end: ChainHead): Promise<void> {
    // Unproven records must be named before a head covers them, also when their file is full.
    if (unproven !== null || heads?.isBehind(end) !== true) return
    try {
      await sink.sync?.()
      await heads.sign(end)
    } catch (error) {
      onError(error, lostEvents)
    }
  }

  function watchHead (): void {
    if (headTimer !== null || closed || head === null || heads?.isBehind(head) !== true) return
    headTimer = setTimeout(() => { headTimer = null; void start() }, heads.everyMs).unref()
  }

  function later (ms: number): ReturnType<typeof setTimeout> {
    timer ??= setTimeout(() => { timer = null; void start() }, ms)
    return timer
  }

  function start (): Promise<void> {
    running ??= drain().finally(() => {
      running = null
      // Events may have arrived while this run of the queue ended. If the sink failed, the timer starts the retry.
      if (queue.length > 0 && timer === null) void start()
    })
    return running
  }

  function write (json: string, wait = mode === 'sync', signed = false): Promise<void> {
    if (closed) return Promise.reject(new AuditUnavailable('The audit log has been closed'))
    if (queuedChars + json.length > MAX_QUEUED_CHARS) {
      const full = new AuditUnavailable('More events are waiting to be written than the audit log can hold')
      lose(1, full)
      return wait ? Promise.reject(full) : Promise.resolve()
    }
    queuedChars += json.length
    if (!wait) {
      queue.push({ json, settle: null })
      if (running === null) {
        if (queue.length >= MAX_BATCH && healthy) void start()
        else later(FLUSH_MS)
      }
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const settle = (error: Error | null): void => { if (error === null) resolve(); else reject(error) }
      queue.push(signed ? { json, settle, signed } : { json, settle })
      void start()
    })
  }

  return {
    async open () {
      try {
        await writeBatch()
      } catch (error) {
        // An unavailable sink may recover; a log that cannot be continued will not.
        if (!(error instanceof AuditUnavailable)) throw error
        fail(error)
        return
      }
      await start()
    },

    write,

    async writeSigned (json) { await write(json, true, true) },

    signEnd,

    async close () {
      if (closed) return
      closed = true
      if (timer !== null) clearTimeout(timer)
      if (headTimer !== null) clearTimeout(headTimer)
      timer = headTimer = null
      while (queue.length > 0 || running !== null) await start()
      // Write the marker for what the last write lost or found, if the sink works again.
      if (head === null && resumed) await writeBatch().catch((error: unknown) => { onError(error, lostEvents) })
      if (head !== null) await signEnd(head)
      await sink.close?.()
    },

    state: () => ({ healthy, lostEvents, lastError, queued: queue.length })
  }
}

function wordFor (cause: unknown): string {
  if (!(cause instanceof Error)) return 'unknown error'
  return 'code' in cause ? String(cause.code) : cause.message
}
