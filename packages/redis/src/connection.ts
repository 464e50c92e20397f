import { setTimeout as delay } from 'node:timers/promises'
import { Cluster } from 'ioredis'
import { createClient, silenceLimitMs, type RedisClient } from './client.js'
import { isWhole } from './cluster.js'
import { RedisUnavailable } from './errors.js'
import { resolveOptions, type RedisOptions } from './options.js'

export interface RedisHealth {
  readonly status: 'healthy' | 'unhealthy'
  readonly details: {
    readonly mode: 'single' | 'sentinel' | 'cluster'
    /** `host:port` of the configured nodes, without credentials. */
    readonly nodes: readonly string[]
    /**
     * The status of ioredis (`connecting`, `ready`, `reconnecting`...), or `closed`, or `partial` for a cluster in
     * which a master is missing.
     */
    readonly state: string
    /** The last error since the connection was last ready. */
    readonly lastError: string | null
    /** How often the connection became ready again after a loss. */
    readonly reconnects: number
  }
}

export interface RedisConnection {
  /** The ioredis client. A command without an answer fails at the deadline; none is queued offline or sent twice. */
  readonly client: RedisClient
  /** Resolves when commands are accepted; rejects with `MARTY_REDIS_UNAVAILABLE` after `timeoutMs` or when closed. */
  ready (timeoutMs: number): Promise<void>
  /**
   * The state of the connection, without a query to Redis. By default, a connection lost without notice is detected
   * within two seconds, even when it is idle.
   */
  health (): RedisHealth
  /** Calls back each time the connection is ready again after a loss. Returns a function that removes the callback. */
  onReconnect (callback: () => void): () => void
  /** Waits for sent commands until their deadline, then disconnects and stops reconnecting. */
  close (): Promise<void>
}

/**
 * Opens Redis and returns immediately. It connects, and reconnects after a loss, in the background.
 *
 * @throws `MARTY_REDIS_OPT_INVALID` naming the field
 * @example
 * const redis = openRedis({ url: 'redis://127.0.0.1:6379' })
 * await redis.ready(2_000)
 * await redis.client.set('greeting', 'hello', 'EX', 60)
 */
export function openRedis (options: RedisOptions): RedisConnection {
  const resolved = resolveOptions(options)
  const client = createClient(resolved)
  const where = resolved.nodes.map(node => `${node.host}:${node.port}`)
  const listeners = new Set<() => void>()
  const waiting = new Set<(error?: Error) => void>()
  const isReady = (): boolean => client instanceof Cluster ? isWhole(client) : client.status === 'ready'
  let lastError: string | null = null
  let readyCount = 0
  let up = false
  let closing: Promise<void> | null = null

  const failed = (error: Error & { library?: string, reason?: string }, node?: string): void => {
    if (lastError !== null && CONSEQUENCE.test(error.message)) return
    // OpenSSL's messages contain names of its source files; keep only the reason.
    lastError =
      (node === undefined ? '' : `${node}: `) + (error.library === undefined ? error.message : `TLS: ${error.reason}`)
  }
  const changed = (): void => {
    if (isReady() === up) return
    up = !up
    if (!up) return
    lastError = null
    for (const settle of waiting) settle()
    if (++readyCount > 1) for (const listener of listeners) listener()
  }
  const stateOf = (isHealthy: boolean): string => {
    if (closing !== null) return 'closed'
    return client.status === 'ready' && !isHealthy ? 'partial' : client.status
  }
  for (const event of ['error', 'sentinelError', 'node error']) client.on(event, failed)
  for (const event of ['ready', 'close', 'refresh', '-node']) client.on(event, changed)
  client.on('+node', node => { node.on('ready', changed) })

  // The socket timeout runs only while an answer is outstanding. A periodic PING starts it on idle connections too, so
  // that a peer that disappeared without closing the connection is detected.
  const heartbeat = setInterval(() => {
    for (const node of client instanceof Cluster ? client.nodes() : [client]) {
      if (node.status === 'ready') node.ping().catch(() => {})
    }
  }, silenceLimitMs(resolved)).unref()

  return Object.freeze({
    client,

    ready (timeoutMs: number): Promise<void> {
      if (closing !== null) return Promise.reject(closed())
      if (isReady()) return Promise.resolve()
      return new Promise((resolve, reject) => {
        const settle = (error?: Error): void => {
          clearTimeout(timer)
          waiting.delete(settle)
          if (error === undefined) resolve()
          else reject(error)
        }
        const timer = setTimeout(() => {
          settle(
            new RedisUnavailable(
              `Redis at ${where.join(', ')} was not ready within ${timeoutMs} ms` +
                (lastError === null ? '' : `; last error: ${lastError}`)
            )
          )
        }, timeoutMs)
        waiting.add(settle)
      })
    },

    health (): RedisHealth {
      const healthy = closing === null && isReady()
      return {
        status: healthy ? 'healthy' : 'unhealthy',
        details: {
          mode: resolved.mode,
          nodes: where,
          state: stateOf(healthy),
          lastError,
          reconnects: Math.max(0, readyCount - 1)
        }
      }
    },

    onReconnect (callback: () => void): () => void {
      listeners.add(callback)
      return () => { listeners.delete(callback) }
    },

    close (): Promise<void> {
      if (closing === null) {
        clearInterval(heartbeat)
        closing = closeClient(client, resolved.commandTimeoutMs)
        for (const settle of waiting) settle(closed())
      }
      return closing
    }
  })
}

/** Messages of ioredis that only follow from an earlier error; they must not hide that error. */
const CONSEQUENCE = /^(Connection is closed|All sentinels are unreachable|Failed to refresh slots cache)/

function closed (): Error {
  return new RedisUnavailable('The connection to Redis has been closed')
}

async function closeClient (client: RedisClient, commandTimeoutMs: number): Promise<void> {
  const ended = new Promise<void>(resolve => { client.once('end', resolve) })
  // QUIT has the command deadline too: do not wait longer for a server that does not answer.
  if (client.status === 'ready') await client.quit().catch(() => {})
  client.disconnect()
  // Between two connection attempts there is no socket, so ioredis would never report its end.
  if (client.status === 'end' || client.status === 'reconnecting') return
  const grace = new AbortController()
  await Promise.race([ended, delay(commandTimeoutMs + 250, undefined, { signal: grace.signal })])
  grace.abort()
}
