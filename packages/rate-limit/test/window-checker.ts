/**
 * An admitted request of one window, with the microseconds between which it was decided: equal where the deciding clock
 * is known.
 */
export interface Admission {
  readonly before: number
  readonly after: number
  readonly units: number
}

/** What a limiter answered to one charge of one request. */
export interface Decision {
  readonly rule: string
  readonly subject: string
  readonly limit: number
  readonly windowMs: number
  readonly cost: number
  readonly admitted: boolean
  readonly before: number
  readonly after: number
  /** Decided by a process in place of the store. */
  readonly isLocal?: boolean
}

export interface Worst {
  /** Units admitted for each unit of the limit; at most 1 when the limiter is exact. */
  readonly ratio: number
  readonly units: number
  readonly limit: number
  readonly subject: string
  /** When the window begins, in microseconds. */
  readonly start: number
}

/** For each rule the fullest of all windows of all its subjects. Where the limit changed, its largest value counts. */
export function worstOfRules (history: Iterable<Decision>): Map<string, Worst> {
  const windows = new Map<string, Decision[]>()
  for (const decision of history) {
    if (!decision.admitted) continue
    const key = `${decision.rule} ${decision.subject}`
    const window = windows.get(key)
    if (window === undefined) windows.set(key, [decision])
    else window.push(decision)
  }
  const worst = new Map<string, Worst>()
  for (const window of windows.values()) {
    const { rule, subject, windowMs } = window[0]!
    if (window.some(decision => decision.windowMs !== windowMs)) {
      throw new Error(`the rule ${rule} has windows of several lengths`)
    }
    const limit = window.reduce((largest, decision) => Math.max(largest, decision.limit), 0)
    const { units, start } = fullestWindow(
      window.map(({ before, after, cost }) => ({ before, after, units: cost })),
      windowMs * 1000
    )
    if (units / limit > (worst.get(rule)?.ratio ?? 0)) {
      worst.set(rule, { ratio: units / limit, units, limit, subject, start })
    }
  }
  return worst
}

/** The most units that certainly fell into one window, over every window of the history. */
export function worstWindow (history: readonly Admission[], windowUs: number): number {
  return fullestWindow(history, windowUs).units
}

/**
 * A window holds its first microsecond and not its last: [start, start + length). The fullest can always be moved to
 * begin with an admission, so those are the starts that are tried: from the latest on, each adds its units to a Fenwick
 * tree ordered by the ends of the admissions, which then answers what ended in time. O(n log n).
 */
function fullestWindow (history: readonly Admission[], windowUs: number): { units: number; start: number } {
  const byStart = [...history].sort((a, b) => b.before - a.before)
  const ends = Float64Array.from(history, ({ after }) => after).sort()
  const tree = new Float64Array(ends.length + 1)
  let fullest = { units: 0, start: 0 }
  for (const [i, { before: start, after, units }] of byStart.entries()) {
    for (let at = countBelow(ends, after) + 1; at < tree.length; at += at & -at) tree[at]! += units
    // What began in the same microsecond belongs to the same window.
    if (byStart[i + 1]?.before === start) continue
    let inside = 0
    for (let at = countBelow(ends, start + windowUs); at > 0; at -= at & -at) inside += tree[at]!
    if (inside > fullest.units) fullest = { units: inside, start }
  }
  return fullest
}

function countBelow (sorted: Float64Array, bound: number): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sorted[middle]! < bound) low = middle + 1
    else high = middle
  }
  return low
}

/** The most units that can still have been inside the window when a request was decided. */
export function possiblyLive (history: readonly Admission[], decidedAfter: number, windowUs: number): number {
  return history.filter(({ after }) => after + windowUs > decidedAfter).reduce((sum, { units }) => sum + units, 0)
}
