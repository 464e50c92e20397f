import { closest } from '@marty/core'

/** Returns `; did you mean "…"?` when a candidate is similar enough, otherwise an empty string. */
export function didYouMean (word: string, candidates: Iterable<string>): string {
  const near = closest(word, candidates)
  return near === null ? '' : `; did you mean "${near}"?`
}
