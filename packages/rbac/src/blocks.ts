/** Blocks of numbers of one length, each different one kept once. Block 0 is all zeros. */
export interface Blocks {
  /** Where the block that begins at `at` of `source` is kept: an index into `words()`. */
  intern (source: Int32Array, at: number): number
  /** Every block, one after another. */
  words (): Int32Array
}

export function createBlocks (length: number): Blocks {
  let store = new Int32Array(length * 8)
  let used = 0
  const byHash = new Map<number, number[]>()

  const isAt = (offset: number, source: Int32Array, at: number): boolean => {
    let i = 0
    while (i < length && store[offset + i] === source[at + i]) i++
    return i === length
  }
  const blocks: Blocks = {
    intern (source, at) {
      let hash = 0
      for (let i = 0; i < length; i++) {
        hash = Math.imul(hash ^ source[at + i]!, 0x9E3779B1)
        hash ^= hash >>> 15
      }
      let known = byHash.get(hash)
      if (known === undefined) byHash.set(hash, known = [])
      for (const offset of known) if (isAt(offset, source, at)) return offset
      if (used + length > store.length) {
        const larger = new Int32Array(store.length * 2)
        larger.set(store)
        store = larger
      }
      store.set(source.subarray(at, at + length), used)
      known.push(used)
      used += length
      return used - length
    },
    words: () => store.slice(0, used)
  }
  blocks.intern(new Int32Array(length), 0)
  return blocks
}
