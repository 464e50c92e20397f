import type { Server } from 'node:https'
import type { Socket } from 'node:net'
import { addressKey } from '@marty/core'

/** How many TLS handshakes one address may start. Each costs a signature, before any other limit can apply. */
export interface HandshakeLimits {
  /** Average number of handshakes per minute; a tenth of it is allowed in one burst. */
  readonly perMinute: number
  /** Unfinished handshakes at the same time. @default 32 */
  readonly pending?: number
}

export interface HandshakeCounts { completed: number, failed: number, refused: number }

/** State of one address: a token bucket for new handshakes, and the number of unfinished ones. */
interface Bucket { tokens: number, at: number, pending: number }

/** Maximum number of tracked addresses; the least recently seen is dropped first. */
const MAX_ADDRESSES = 10_000

/**
 * Counts the handshakes of a server. Closes a connection without a response when its address (its /64 for IPv6) has
 * started too many, and calls `onRefused` for each closed connection.
 */
export function limitHandshakes (
  server: Server,
  { perMinute, pending: maxPending = 32 }: HandshakeLimits,
  onRefused: () => void
): HandshakeCounts {
  const counts: HandshakeCounts = { completed: 0, failed: 0, refused: 0 }
  const buckets = new Map<string, Bucket>()
  const handshakes = new Map<string, Bucket>()
  const burst = Math.max(1, perMinute / 10)

  const bucketOf = (address: string | undefined): Bucket => {
    const key = addressKey(address)
    const now = performance.now()
    const bucket = buckets.get(key) ?? { tokens: burst, at: now, pending: 0 }
    bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) * perMinute) / 60_000)
    bucket.at = now
    buckets.delete(key)
    buckets.set(key, bucket)
    if (buckets.size > MAX_ADDRESSES) buckets.delete(buckets.keys().next().value as string)
    return bucket
  }
  const end = (peer: string): boolean => {
    const bucket = handshakes.get(peer)
    if (bucket === undefined) return false
    bucket.pending--
    return handshakes.delete(peer)
  }

  // Node starts the handshake in its own 'connection' listener, so this listener must run before it.
  const accept = server.listeners('connection') as Array<(this: Server, socket: Socket) => void>
  server.removeAllListeners('connection')
  server.on('connection', (socket: Socket) => {
    const bucket = bucketOf(socket.remoteAddress)
    if (bucket.tokens < 1 || bucket.pending >= maxPending) {
      counts.refused++
      socket.destroy()
      onRefused()
      return
    }
    bucket.tokens--
    bucket.pending++
    const peer = peerOf(socket)
    handshakes.set(peer, bucket)
    socket.once('close', () => {
      if (end(peer)) counts.failed++
    })
    for (const listener of accept) listener.call(server, socket)
  })
  server.on('secureConnection', socket => {
    if (end(peerOf(socket))) counts.completed++
  })
  return counts
}

function peerOf ({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}
