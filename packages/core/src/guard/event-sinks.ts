import type { EventSink, SecurityEvent } from './event.js'

const HANDLED: Promise<void> = Promise.resolve()

/** The receivers of security events. */
export class EventSinks {
  readonly #sinks: EventSink[] = []

  add (sink: EventSink): void {
    this.#sinks.push(sink)
  }

  /** Resolves when every sink has handled the event; never rejects. */
  emit (event: SecurityEvent): Promise<void> {
    return this.#sinks.length === 0 ? HANDLED : this.#deliver(event)
  }

  async #deliver (event: SecurityEvent): Promise<void> {
    await Promise.allSettled(this.#sinks.map(async sink => { await sink(event) }))
  }
}
