/**
 * Removes expired entries from a map in small steps. Each call continues where the last one stopped, so
 * neither a large map nor a busy one blocks the event loop. Every entry is checked once within
 * `map.size` steps.
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
