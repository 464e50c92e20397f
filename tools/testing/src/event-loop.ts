/** Blocks the event loop of this process. */
export function blockLoopFor (ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
}

/** Blocks the event loop of this process until the condition holds. The condition must not depend on the event loop. */
export function blockLoopUntil (condition: () => boolean): void {
  const end = performance.now() + 30_000
  while (!condition()) if (performance.now() > end) throw new Error('waited 30 s with the event loop blocked')
}
