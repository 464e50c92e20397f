/** One admitted request of one log, with the microseconds between which its stamp was taken. */
export interface Admission {
  readonly before: number
  readonly after: number
  readonly units: number
}

/** The most units that certainly fell into one window, over every window of the history. */
export function worstWindow (history: readonly Admission[], windowUs: number): number {
  let worst = 0
  for (const first of history) {
    const units = history
      .filter(other => other.before >= first.before && other.after < first.before + windowUs)
      .reduce((sum, other) => sum + other.units, 0)
    worst = Math.max(worst, units)
  }
  return worst
}

/** The most units that can still have been inside the window when a request was decided. */
export function possiblyLive (history: readonly Admission[], decidedAfter: number, windowUs: number): number {
  return history.filter(({ after }) => after + windowUs > decidedAfter).reduce((sum, { units }) => sum + units, 0)
}
