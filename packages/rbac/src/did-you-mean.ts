import { closest } from '@marty/core'

/** `; did you mean "…"?` when a name is near enough, otherwise nothing. */
export function didYouMean (word: string, candidates: Iterable<string>): string {
  const near = closest(word, candidates)
  return near === null ? '' : `; did you mean "${near}"?`
}
