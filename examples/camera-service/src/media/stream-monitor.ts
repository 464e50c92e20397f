/** Without a new byte for this long, a stream counts as interrupted. The media server itself notices after 10 s. */
const SILENCE_MS = 5000

/** Detects from the number of received bytes whether video is arriving. */
export class StreamMonitor {
  #bytes: number | null = null
  #grewAt = performance.now()

  /** Whether video is arriving. `bytes` is the number received so far; null when there is no stream. */
  observe (bytes: number | null): boolean {
    const now = performance.now()
    if (bytes !== null && bytes !== this.#bytes) this.#grewAt = now
    this.#bytes = bytes
    return bytes !== null && now - this.#grewAt < SILENCE_MS
  }
}
