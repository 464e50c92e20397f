import { setTimeout as delay } from 'node:timers/promises'
import type { Cluster, Redis } from 'ioredis'
import { createClient } from './client.js'
import { RedisUnavailable } from './errors.js'
import { resolveOptions, type RedisOptions } from './options.js'

export type RedisClient = Redis | Cluster

export interface RedisHealth {
  readonly status: 'healthy' | 'unhealthy'
  readonly details: {
    readonly mode: 'single' | 'sentinel' | 'cluster'
    /** `host:port` of the configured nodes, without credentials. */
    readonly nodes: readonly string[]
    /** ioredis's own word for it (`connecting`, `ready`, `reconnecting`...), or `closed`. */
    readonly state: string
    /** What went wrong last, since the connection was last ready. */
    readonly lastError: string | null
    /** How often it became ready again after it had been lost. */
    readonly reconnects: number
  }
}

export interface RedisConnection {
  /** The ioredis client, with bounded waits. Every command fails within the deadline; none is queued or repeated. */
  readonly client: RedisClient
  /** Settles when commands are accepted; rejects with `MARTY_REDIS_UNAVAILABLE` after `timeoutMs` or when closed. */
  ready (timeoutMs: number): Promise<void>
  /** What is known of the connection, without asking Redis. */
  health (): RedisHealth
  /** Calls back each time the connection is ready again after it was lost. Returns how to stop. */
  onReconnect (callback: () => void): () => void
  /** Lets sent commands finish within the command deadline, then disconnects and stops reconnecting. */
  close (): Promise<void>
}

/**
 * Opens Redis and returns at once; the connection is made, and made again, in the background.
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
  const listeners = new Set<() => void>()
  const waiting = new Set<(error: Error) => void>()
  let lastError: string | null = null
  let readyCount = 0
  let closing: Promise<void> | null = null

  // First listener, so that later ones and logs never see the handshake's arguments, which hold the password.
  client.on('error', (error: Error & { command?: { args?: unknown } }) => {
    if (error.command !== undefined) error.command = { ...error.command, args: [] }
    lastError = error.message
  })
  client.on('ready', () => {
    lastError = null
    if (++readyCount === 1) return
    for (const listener of listeners) listener()
  })

  return Object.freeze({
    client,

    ready (timeoutMs: number): Promise<void> {
      if (closing !== null) return Promise.reject(closed())
      if (client.status === 'ready') return Promise.resolve()
      return new Promise((resolve, reject) => {
        const settle = (error?: Error): void => {
          clearTimeout(timer)
          client.off('ready', settle)
          waiting.delete(settle)
          if (error === undefined) resolve()
          else reject(error)
        }
        const where = resolved.nodes.map(node => `${node.host}:${node.port}`).join(', ')
        const timer = setTimeout(() => {
          settle(new RedisUnavailable(`Redis at ${where} was not ready within ${timeoutMs} ms` + (lastError === null ? '' : `; last error: ${lastError}`)))
        }, timeoutMs)
        client.once('ready', settle)
        waiting.add(settle)
      })
    },

    health (): RedisHealth {
      return {
        status: client.status === 'ready' && closing === null ? 'healthy' : 'unhealthy',
        details: {
          mode: resolved.mode,
          nodes: resolved.nodes.map(node => `${node.host}:${node.port}`),
          state: closing === null ? client.status : 'closed',
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
        closing = closeClient(client, resolved.commandTimeoutMs)
        for (const settle of waiting) settle(closed())
      }
      return closing
    }
  })
}

function closed (): RedisUnavailable {
  return new RedisUnavailable('The connection to Redis has been closed')
}

async function closeClient (client: RedisClient, commandTimeoutMs: number): Promise<void> {
  const ended = new Promise<void>(resolve => { client.once('end', resolve) })
  // QUIT is bound by the command deadline; a server that does not answer is left behind.
  if (client.status === 'ready') await client.quit().catch(() => {})
  client.disconnect()
  // Between two attempts to connect there is no socket whose end ioredis could report.
  if (client.status === 'end' || client.status === 'reconnecting') return
  const grace = new AbortController()
  await Promise.race([ended, delay(commandTimeoutMs + 250, undefined, { signal: grace.signal })])
  grace.abort()
}
