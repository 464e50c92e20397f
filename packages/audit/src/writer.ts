import { createHash } from 'node:crypto'
import { GENESIS, sealRecord, type ChainHead } from './chain.js'
import { AuditUnavailable } from './errors.js'
import type { HeadLog } from './head-log.js'
import { markerRecord, type Unproven } from './own-records.js'
import type { AuditSink, ResumePoint } from './sink.js'

/** Puts records into the chain and the chain into the sink, in the order they came. */
export interface AuditWriter {
  /** Finds the end of an earlier run's chain. Throws when it cannot be continued. */
  open (): Promise<void>
  /**
   * `wait`: settles when the record is safe, rejects with `MARTY_AUDIT_UNAVAILABLE`. Otherwise settles at once.
   * `json` is an object with members.
   */
  write (json: string, wait?: boolean): Promise<void>
  /** Settles when the record is safe and, if there are heads, one covers it. */
  writeSigned (json: string): Promise<void>
  /** Signs the end of a file that is complete and durable. */
  signEnd (head: ChainHead): Promise<void>
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
  readonly json: string
  /** Settled only when a head covers it. */
  readonly signed?: true
  readonly settle: ((error: Error | null) => void) | null
}

/** Ends of the chain after the marker and after each event of one write, and the losses that the marker tells. */
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
  /** Told of each failed write. */
  readonly onError: (error: unknown, lostEvents: number) => void
}

/** Beyond, events are lost (and counted, and told by a gap marker) or refused rather than the process lost. */
const MAX_QUEUED_CHARS = 32 * 1024 * 1024
const MAX_BATCH = 1_000
const MAX_BATCH_CHARS = 1024 * 1024
/** At most this much of async mode is lost with the process. */
const FLUSH_MS = 50
/** Async events wait in the queue while the sink fails; it is tried again after this long. */
const RETRY_MS = 500
/** Ends of earlier writes that are remembered while they may still turn up. */
const MAX_IN_DOUBT = 100

export function createAuditWriter ({ sink, mode, heads, onError }: WriterOptions): AuditWriter {
  const queue: Waiting[] = []
  let queuedChars = 0
  /** Null while nobody knows where the chain in the sink ends. */
  let head: ChainHead | null = null
  let lastGood: ChainHead = GENESIS
  /** What the last write brought, in case it fails: some of it may be in the sink nevertheless. */
  let attempt: Attempt = NO_ATTEMPT
  /** Ends of failed writes before that: Redis may carry out a command late. */
  let inDoubt: string[] = []
  /** What was found in the sink and has to be named before anything is signed. */
  let unproven: Unproven | null = null
  /** Settle when the next head has been signed, or not. */
  let toSign: Array<NonNullable<Waiting['settle']>> = []
  /** Events of the write that is going on; 0 while it is looked where the chain ends. */
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

  /** Where the chain goes on, and what has to be said there first. */
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
    // The torn bytes lack their newline, or the marker would be torn with them.
    const preface = point.torn.length === 0 || point.torn.at(-1) === 0x0a ? '' : '\n'
    const torn = preface === '' ? point.torn : Buffer.concat([point.torn, Buffer.from(preface)])
    const died = !resumed && point.orderly === false
    const isGap = torn.length > 0 || died || lostUntold > 0
    if (!isGap && unproven === null) return { end: point.head, preface, marker: null }
    const tornSha256 = torn.length === 0 ? null : createHash('sha256').update(torn).digest('hex')
    const gap = isGap ? { tornBytes: torn.length, tornSha256, lostEvents: died ? null : lostUntold } : null
    return { end: point.head, preface, marker: markerRecord(gap, unproven) }
  }

  /** What is in the sink beyond the last head is proven only if this run wrote it. */
  function doubt (end: ChainHead, vouched: ChainHead): void {
    const { marker, events } = attempt
    if ([lastGood.hash, marker, ...events, ...inDoubt].includes(end.hash)) return
    if (end.hash === vouched.hash && lastGood.seq <= end.seq) return
    unproven = { after: vouched, last: end, writtenSeq: Math.max(lastGood.seq, unproven?.writtenSeq ?? 0) }
  }

  /** Of a failed write, what the sink has after all is not written again. */
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

  /** Writes the first events of the queue, and takes them out of it. Throws when that fails. */
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

  /** Whoever waits is told; events that nobody waits for stay, and are tried again, as long as there is a process. */
  function fail (cause: unknown): 'kept' | 'given up' {
    healthy = false
    lastError = wordFor(cause)
    if (mode === 'async' && !closed) {
      lose(0, cause)
      later(RETRY_MS).unref()
      return 'kept'
    }
    // When nobody knows where to go on, all who wait now are told at once: one after the other, they would wait long.
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
    // What was found must be named before a head covers it, also when its file is full.
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
      // Came while it ended; when the sink failed, the timer sees to it.
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
        // A sink that is away may come back; one that cannot be continued will not.
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
      // What the last write lost or found is said now, if the sink takes it again.
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
