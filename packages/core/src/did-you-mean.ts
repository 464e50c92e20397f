/** Returns `; did you mean "…"?` when a candidate is close enough, otherwise an empty string. */
export function didYouMean (word: string, candidates: Iterable<string>): string {
  const near = closest(word, candidates)
  return near === null ? '' : `; did you mean "${near}"?`
}

/** Like {@link didYouMean}, but lists the candidates when none is close enough: `; known are a, b`. */
export function didYouMeanOrKnown (word: string, candidates: Iterable<string>): string {
  const known = [...candidates]
  return didYouMean(word, known) || (known.length === 0 ? '; there are none' : `; known are ${known.join(', ')}`)
}

/**
 * The candidate closest to a misspelt word, for "did you mean" messages; null when none is close enough.
 * The distance is Damerau-Levenshtein (an adjacent transposition counts once), at most a third of the word's length.
 */
export function closest (word: string, candidates: Iterable<string>): string | null {
  let best: string | null = null
  let least = Math.max(1, Math.floor(word.length / 3)) + 1
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - word.length) >= least) continue
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance < least) {
      best = candidate
      least = distance
    }
  }
  return best
}

function editDistance (a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      let value = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + cost)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        value = Math.min(value, beforeLast[j - 2]! + 1)
      }
      row.push(value)
    }
    beforeLast = last
    last = row
  }
  return last[b.length]!
}
