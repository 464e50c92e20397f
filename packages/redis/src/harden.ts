import { inspect } from 'node:util'
import type { Cluster, Command, Redis, RedisOptions as IoRedisOptions } from 'ioredis'
import { startDeadline } from './deadline.js'

/** Options of every connection, including those that a cluster client opens to its nodes. */
export type NodeOptions = Omit<IoRedisOptions, 'replyMapping'>

/** Exponential backoff from 50 ms, with up to 50 % random jitter, so that clients do not all reconnect together. */
export function backoffMs (attempt: number, mostMs: number): number {
  return Math.round(Math.min(50 * 2 ** Math.min(attempt - 1, 12), mostMs) * (1 - Math.random() / 2))
}

/**
 * Prepares a new connection before other code can add listeners to it. Its errors and its inspected form contain no
 * password, and an error of its socket cannot end the process.
 */
export function harden (redis: Redis): Redis {
  giveUpSilence(redis)
  redis.on('error', (error: Error & { command?: { args?: unknown } }) => {
    // The arguments of the handshake (`AUTH`, `HELLO`) contain the password.
    if (error.command !== undefined) error.command = { ...error.command, args: [] }
    // A TLS socket that is closed during its handshake may emit two errors; ioredis listens for one.
    redis.stream?.on('error', () => {})
  })
  return conceal(redis)
}

/**
 * ioredis 6's internal socket timeout. It is started by a command, and restarted by data while further answers are
 * outstanding.
 */
interface SilenceWatch {
  setSocketTimeout: () => void
  /** While it is set, ioredis starts no other timer. */
  socketTimeoutTimer: NodeJS.Timeout | undefined
}

/** Replaces the socket timeout of ioredis, so that a busy event loop of this process does not count as silence. */
function giveUpSilence (redis: Redis): void {
  const { socketTimeout } = redis.options
  const watch = redis as unknown as SilenceWatch
  if (socketTimeout === undefined) return
  watch.setSocketTimeout = () => {
    const { stream } = redis
    const timer = startDeadline(socketTimeout, () => {
      if (watch.socketTimeoutTimer !== timer) return
      watch.socketTimeoutTimer = undefined
      stream.destroy(new Error(`Socket timeout. Expecting data, but didn't receive any in ${socketTimeout}ms.`))
    })
    watch.socketTimeoutTimer = timer
    // Runs after ioredis's own listener, which removes the answered commands from the queue.
    stream.once('data', () => {
      clearTimeout(timer)
      watch.socketTimeoutTimer = undefined
      if (redis.commandQueue.length > 0) watch.setSocketTimeout()
    })
  }
}

/** Makes logs and `console.log` show only which client it is, because its options hold the password. */
export function conceal<T extends Redis | Cluster> (client: T): T {
  const shown = (): string => `[redis client: ${client.status}]`
  Object.defineProperties(client, { [inspect.custom]: { value: shown }, toJSON: { value: shown } })
  return client
}

/** ioredis 6's internal command timer, which it clears when the command settles. */
interface CommandDeadline {
  _commandTimeoutTimer?: NodeJS.Timeout
}

/** Replaces the timer of ioredis, which mistakes a busy event loop for a Redis that does not answer. */
export function setCommandDeadline (this: Command, ms: number): void {
  // A command that a cluster redirects keeps its original deadline.
  (this as unknown as CommandDeadline)._commandTimeoutTimer ??= startDeadline(ms, () => {
    if (!this.isSettled) this.reject(new Error('Command timed out'))
  })
}
