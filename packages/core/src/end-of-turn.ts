interface Turn {
  readonly over: Promise<void>
  readonly end: () => void
  waiting: number
}

/** So many are company enough: with more, whoever they ask over the network would be idle while the rest is read. */
const ENOUGH = 16

/** Kept, because tests of applications put clocks of their own in its place. */
const afterReading = setImmediate

let current: Turn | null = null

/**
 * Settles when the event loop has read all that had arrived, or sixteen wait. What waits then runs in a row, one request after another, which
 * is cheaper than between the system calls of each: code, data and branches are still known from the request before. A promise and not
 * a list of callbacks, because what waits for a promise keeps the async context of its own request.
 */
export function endOfTurn (): Promise<void> {
  const turn = current ??= begin()
  if (++turn.waiting === ENOUGH) end(turn)
  return turn.over
}

function begin (): Turn {
  let settle = (): void => {}
  const over = new Promise<void>(resolve => { settle = resolve })
  const turn = { over, end: settle, waiting: 0 }
  afterReading(end, turn)
  return turn
}

/** Once more is no harm. */
function end (turn: Turn): void {
  if (current === turn) current = null
  turn.end()
}
