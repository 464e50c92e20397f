/**
 * Looks at a map bit by bit, from where it stopped last, and drops what is over: so that neither a large map nor a
 * busy one makes anybody wait. Every entry is looked at once within `map.size` steps.
 */
export function createSweep<V> (
  map: Map<string, V>,
  isOver: (value: V) => boolean,
  onDrop: (value: V) => void = () => {}
): (steps: number) => void {
  let cursor = map.entries()
  return steps => {
    for (let left = Math.min(steps, map.size); left > 0; left--) {
      let next = cursor.next()
      if (next.done === true) {
        cursor = map.entries()
        next = cursor.next()
      }
      if (next.done === true) return
      const [key, value] = next.value
      if (!isOver(value)) continue
      map.delete(key)
      onDrop(value)
    }
  }
}
