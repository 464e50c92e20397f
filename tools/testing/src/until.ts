/** Polls until the condition holds; throws after the deadline. Uses a clock that tests cannot replace. */
export async function until (
  condition: () => boolean | Promise<boolean>, what: string = condition.toString(), deadlineMs = 60_000
): Promise<void> {
  const end = performance.now() + deadlineMs
  while (!await condition()) {
    if (performance.now() > end) throw new Error(`waited ${deadlineMs} ms for ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}
