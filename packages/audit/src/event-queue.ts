/** Settles the promise of the caller that waits for an event. */
export type Settle = (error: Error | null) => void

/** An event that waits to be written. */
export interface QueuedEvent {
  /** A non-empty JSON object. */
  readonly json: string
  /** Whether its caller is settled only when a checkpoint covers the event. */
  readonly needsCheckpoint: boolean
  /** Null when no caller waits for the event. */
  readonly settle: Settle | null
}

/**
 * Bounds the memory of the queue. Beyond it, events are refused, or lost and counted (a gap marker reports them), so
 * that the process does not run out of memory.
 */
const MAX_QUEUED_CHARS = 32 * 1024 * 1024
/** Limits of one write. */
const MAX_BATCH = 1_000
const MAX_BATCH_CHARS = 1024 * 1024

/** Events in the order of arrival. An event leaves the queue when it is written or given up. */
export class EventQueue {
  readonly #events: QueuedEvent[] = []
  #chars = 0
  #waiting = 0

  get length (): number {
    return this.#events.length
  }

  /** Whether the next write should start now: a caller waits for it, or there is enough for one. */
  get isDue (): boolean {
    return this.#waiting > 0 || this.#events.length >= MAX_BATCH || this.#chars >= MAX_BATCH_CHARS
  }

  /** Returns false, and adds nothing, when the queue is full. */
  add (event: QueuedEvent): boolean {
    if (this.#chars + event.json.length > MAX_QUEUED_CHARS) return false
    this.#chars += event.json.length
    if (event.settle !== null) this.#waiting++
    this.#events.push(event)
    return true
  }

  /** The first events, as many as one write takes. They stay in the queue. */
  batch (): readonly QueuedEvent[] {
    let count = 0
    for (let chars = 0; count < this.#events.length && count < MAX_BATCH && chars < MAX_BATCH_CHARS; count++) {
      chars += this.#events[count]!.json.length
    }
    return this.#events.slice(0, count)
  }

  /** Removes the first events. */
  take (count: number): QueuedEvent[] {
    const taken = this.#events.splice(0, count)
    for (const { json, settle } of taken) {
      this.#chars -= json.length
      if (settle !== null) this.#waiting--
    }
    return taken
  }
}
