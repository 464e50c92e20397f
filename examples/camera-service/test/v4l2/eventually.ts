import { setTimeout as delay } from 'node:timers/promises'

/**
 * Looks until the value is as wanted, and returns it; a condition that never comes true fails with what it waited for.
 */
export async function eventually<Value> (
  what: string,
  look: () => Promise<Value> | Value,
  wanted: (value: Value) => boolean = Boolean,
  deadlineMs = 120_000
): Promise<Value> {
  const end = performance.now() + deadlineMs
  for (;;) {
    const value = await look()
    if (wanted(value)) return value
    if (performance.now() > end) {
      throw new Error(`waited ${deadlineMs} ms for: ${what}; last seen: ${JSON.stringify(value)}`)
    }
    await delay(50)
  }
}
