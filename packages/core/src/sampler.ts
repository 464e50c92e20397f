/** The items of one kind that were counted instead of written during one window. */
export interface Omitted<Item> {
  /** The first item of the kind in the window. */
  readonly first: Item
  /** When that first item arrived: ISO 8601, UTC. */
  readonly since: string
  readonly count: number
  /** Whether `isAlike` found every counted item to be like the first one. */
  readonly alike: boolean
  /** Whether these items are of several kinds, counted together because there were more than `maxKinds`. */
  readonly overflow: boolean
}

export interface SamplerOptions<Item> {
  readonly windowMs: number
  /** How many items of each kind pass in one window. */
  readonly perKind: number
  /** How many kinds are tracked separately in one window; all further kinds are counted together. */
  readonly maxKinds: number
  /** Called at the end of a window, for each kind with counted items. */
  readonly report: (omitted: Omitted<Item>) => void
  /** @default every item of a kind is like the others */
  readonly isAlike?: (first: Item, other: Item) => boolean
}

/**
 * Keeps events that any client can cause from filling a log: the first items of each kind pass, the others are only
 * counted.
 */
export interface Sampler<Item> {
  /** Returns true when the item is to be written; otherwise it is counted. */
  passes (kind: string, item: Item): boolean
  /** Reports the counted items. After this call, every item passes. */
  close (): void
}

interface Kind<Item> {
  first: Item
  readonly since: string
  readonly overflow: boolean
  passed: number
  count: number
  alike: boolean
}

export function createSampler<Item> ({
  windowMs,
  perKind,
  maxKinds,
  report,
  isAlike = () => true
}: SamplerOptions<Item>): Sampler<Item> {
  let kinds = new Map<string, Kind<Item>>()
  let others: Kind<Item> | null = null
  let timer: ReturnType<typeof setTimeout> | null = null
  let closed = false

  function flush (): void {
    if (timer !== null) clearTimeout(timer)
    timer = null
    const over = others === null ? [...kinds.values()] : [...kinds.values(), others]
    kinds = new Map()
    others = null
    for (const { first, since, count, alike, overflow } of over) {
      if (count > 0) report({ first, since, count, alike, overflow })
    }
  }

  function kindOf (name: string, item: Item): Kind<Item> {
    const known = kinds.get(name)
    if (known !== undefined) return known
    if (kinds.size >= maxKinds) {
      others ??= begin(item, true)
      return others
    }
    const kind = begin(item, false)
    kinds.set(name, kind)
    return kind
  }

  return {
    passes (name, item) {
      if (closed) return true
      timer ??= setTimeout(flush, windowMs).unref()
      const kind = kindOf(name, item)
      if (!kind.overflow && kind.passed < perKind) {
        kind.passed++
        return true
      }
      kind.count++
      if (kind.alike && !isAlike(kind.first, item)) kind.alike = false
      return false
    },
    close () {
      closed = true
      flush()
    }
  }
}

function begin<Item> (first: Item, overflow: boolean): Kind<Item> {
  return { first, since: new Date().toISOString(), overflow, passed: 0, count: 0, alike: true }
}
