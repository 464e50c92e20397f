export interface CircuitBreakerOptions {
  /** The number of consecutive failures that opens the circuit. */
  readonly threshold: number
  /** Time between a failure and the next probe. Milliseconds. */
  readonly resetMs: number
  /**
   * Whether all failures in one turn of the event loop count as one, for calls that are sent together: their
   * simultaneous failures are one observation of the service.
   * @default false
   */
  readonly countsTurns?: boolean
  /** Monotonic clock in milliseconds. @default performance.now */
  readonly now?: () => number
}

/** Keeps callers from waiting for a service that has just failed several times in succession. */
export class CircuitBreaker {
  readonly #threshold: number
  readonly #resetMs: number
  readonly #countsTurns: boolean
  readonly #now: () => number
  #failures = 0
  #probeAt = 0
  #isCounted = false

  constructor ({
    threshold, resetMs, countsTurns = false, now = performance.now.bind(performance)
  }: CircuitBreakerOptions) {
    this.#threshold = threshold
    this.#resetMs = resetMs
    this.#countsTurns = countsTurns
    this.#now = now
  }

  /** `half-open`: the next call is a probe. */
  get state (): 'closed' | 'open' | 'half-open' {
    if (this.#failures < this.#threshold) return 'closed'
    return this.#now() < this.#probeAt ? 'open' : 'half-open'
  }

  /**
   * `closed`: make the call. `open`: do not. `probe`: make it to test the service, while all other callers still get
   * `open`, until the probe is reported or the next one is due.
   */
  enter (): 'closed' | 'open' | 'probe' {
    if (this.#failures < this.#threshold) return 'closed'
    const now = this.#now()
    if (now < this.#probeAt) return 'open'
    this.#probeAt = now + this.#resetMs
    return 'probe'
  }

  /** The service has answered. Also closes the circuit when the service is known to work again for another reason. */
  succeeded (): void {
    this.#failures = 0
  }

  failed (): void {
    this.#probeAt = this.#now() + this.#resetMs
    if (this.#isCounted) return
    this.#failures++
    if (!this.#countsTurns) return
    this.#isCounted = true
    setImmediate(() => { this.#isCounted = false })
  }
}
