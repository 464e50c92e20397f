/** Lets concurrent callers share one run of a piece of work. */
export class SingleFlight<T> {
  readonly #work: () => Promise<T>
  #running: Promise<T> | null = null
  #queued: Promise<T> | null = null

  constructor (work: () => Promise<T>) {
    this.#work = work
  }

  get isRunning (): boolean {
    return this.#running !== null
  }

  /** Joins the run in progress, or else starts one. For callers that any recent result satisfies. */
  join (): Promise<T> {
    return this.#running ?? this.#start()
  }

  /**
   * Starts a run, or queues one after the run in progress; all callers that wait for it share it. For callers that need
   * a run which began after their call, such as after a change that the work has to see.
   */
  rerun (): Promise<T> {
    if (this.#running === null) return this.#start()
    const next = (): Promise<T> => {
      this.#queued = null
      return this.join()
    }
    this.#queued ??= this.#running.then(next, next)
    return this.#queued
  }

  #start (): Promise<T> {
    const run = this.#work().finally(() => {
      if (this.#running === run) this.#running = null
    })
    this.#running = run
    return run
  }
}

/** Lets concurrent callers with the same key share one run of a piece of work. */
export class KeyedSingleFlight<Key, T> {
  readonly #running = new Map<Key, Promise<T>>()

  /** Joins the run of this key, or else starts `work`. */
  join (key: Key, work: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key)
    if (running !== undefined) return running
    const run = work().finally(() => {
      if (this.#running.get(key) === run) this.#running.delete(key)
    })
    this.#running.set(key, run)
    return run
  }

  /** Keeps later callers from joining the runs in progress, which go on for the callers that wait for them. */
  forget (): void {
    this.#running.clear()
  }
}
