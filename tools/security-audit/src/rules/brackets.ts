/** The offset of the bracket that closes the one at `open`, or the end of `code`. Strings in `code` must be blank. */
export function closing (code: string, open: number): number {
  let depth = 0
  for (let i = open; i < code.length; i++) {
    if ('([{'.includes(code[i]!)) depth++
    else if (')]}'.includes(code[i]!) && --depth === 0) return i
  }
  return code.length
}

/** The offset of the brace that opens the block or object around `index`, or -1. */
export function enclosingBrace (code: string, index: number): number {
  let depth = 0
  for (let i = index - 1; i >= 0; i--) {
    if (')]}'.includes(code[i]!)) depth++
    else if ('([{'.includes(code[i]!) && --depth < 0) return code[i] === '{' ? i : -1
  }
  return -1
}

/** The offset at which the first argument of a call ends. `open` is the offset of the call's parenthesis. */
export function endOfFirstArgument (code: string, open: number): number {
  const close = closing(code, open)
  for (let i = open + 1; i < close; i++) {
    if (code[i] === ',') return i
    if ('([{'.includes(code[i]!)) i = closing(code, i)
  }
  return close
}
