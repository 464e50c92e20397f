/** The median; the mean of the two middle values for an even number of values. NaN without values. */
export function median (values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** The smallest value that at least this share of the values does not exceed. NaN without values. */
export function percentile (values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN
}

/** A copy in random order (Fisher-Yates). */
export function shuffled<T> (values: readonly T[], random: () => number = Math.random): T[] {
  const result = [...values]
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[result[i], result[j]] = [result[j]!, result[i]!]
  }
  return result
}

/** Cuts the values, in order, into five parts, and returns the lowest median: it was disturbed least. */
export function lowestMedian (values: readonly number[]): number {
  if (values.length < 5) return median(values)
  return Math.min(
    ...Array.from({ length: 5 }, (_, run) =>
      median(values.slice((values.length * run) / 5, (values.length * (run + 1)) / 5))
    )
  )
}
