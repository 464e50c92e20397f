/** Adds an item to the list under a key, for maps that are built once and then read. */
export function append<Key, Item> (lists: Map<Key, Item[]>, key: Key, item: Item): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [item])
  else list.push(item)
}

const NOTHING: ReadonlySet<never> = new Set()

/** A set of items under each key. A key without items takes no memory. */
export class Multimap<Key, Item> {
  readonly #sets = new Map<Key, Set<Item>>()

  /** The number of keys that have items. */
  get size (): number {
    return this.#sets.size
  }

  /** The items of a key, in the order in which they were added. It changes as items are added and deleted. */
  get (key: Key): ReadonlySet<Item> {
    return this.#sets.get(key) ?? NOTHING
  }

  add (key: Key, item: Item): void {
    const items = this.#sets.get(key)
    if (items === undefined) this.#sets.set(key, new Set([item]))
    else items.add(item)
  }

  /** Returns whether the item was there. */
  delete (key: Key, item: Item): boolean {
    const items = this.#sets.get(key)
    const isDeleted = items?.delete(item) ?? false
    if (items?.size === 0) this.#sets.delete(key)
    return isDeleted
  }
}
