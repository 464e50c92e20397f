/** Rows of numbers, all of the same length; equal rows are stored once. Row 0 is all zeros. */
export class InternedRows {
  readonly #length: number
  readonly #byHash = new Map<number, number[]>()
  #store: Int32Array
  #used = 0

  constructor (length: number) {
    this.#length = length
    this.#store = new Int32Array(length * 8)
    this.intern(new Int32Array(length), 0)
  }

  /**
   * Stores the row that begins at `at` of `source`, unless an equal one is stored. Returns its index
   * into {@link toArray}.
   */
  intern (source: Int32Array, at: number): number {
    const length = this.#length
    let hash = 0
    for (let i = 0; i < length; i++) {
      hash = Math.imul(hash ^ source[at + i]!, 0x9E3779B1)
      hash ^= hash >>> 15
    }
    let known = this.#byHash.get(hash)
    if (known === undefined) this.#byHash.set(hash, known = [])
    for (const offset of known) if (this.#isAt(offset, source, at)) return offset
    const used = this.#used
    if (used + length > this.#store.length) {
      const larger = new Int32Array(this.#store.length * 2)
      larger.set(this.#store)
      this.#store = larger
    }
    this.#store.set(source.subarray(at, at + length), used)
    known.push(used)
    this.#used += length
    return used
  }

  /** All rows, concatenated. */
  toArray (): Int32Array {
    return this.#store.slice(0, this.#used)
  }

  #isAt (offset: number, source: Int32Array, at: number): boolean {
    let i = 0
    while (i < this.#length && this.#store[offset + i] === source[at + i]) i++
    return i === this.#length
  }
}
