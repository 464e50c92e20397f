/** What became of commands that were sent without pause. */
export interface Load {
  /** Messages of the failures and how often each came; `OK` counts the successes. */
  readonly outcomes: ReadonlyMap<string, number>
  /** The longest that one command took to settle. Milliseconds. */
  worstMs(): number
  /** Waits for the last commands; rejects when one of them has not settled after `limitMs`. */
  stop(limitMs: number): Promise<void>
}

/** Sends a command every five milliseconds, whether or not the ones before have settled. */
export function startLoad (command: () => Promise<unknown>): Load {
  const outcomes = new Map<string, number>()
  const running = new Set<Promise<void>>()
  let worst = 0
  const count = (outcome: string): void => {
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  }
  const timer = setInterval(() => {
    const started = performance.now()
    const one: Promise<void> = command()
      .then(
        () => {
          count('OK')
        },
        (error: Error) => {
          count(error.message)
        }
      )
      .finally(() => {
        worst = Math.max(worst, performance.now() - started)
        running.delete(one)
      })
    running.add(one)
  }, 5)
  return {
    outcomes,
    worstMs: () => worst,
    async stop (limitMs) {
      clearInterval(timer)
      await settlesWithin(limitMs, Promise.all(running))
    }
  }
}

/** Rejects when the promise has not settled after `limitMs`, however it settles. */
export async function settlesWithin (limitMs: number, promise: Promise<unknown>): Promise<void> {
  let timer
  const late = new Promise<never>((resolve, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`not settled after ${limitMs} ms`))
    }, limitMs)
  })
  try {
    await Promise.race([
      promise.then(
        () => {},
        () => {}
      ),
      late
    ])
  } finally {
    clearTimeout(timer)
  }
}
