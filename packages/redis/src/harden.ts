import { inspect } from 'node:util'
import type { Cluster, Command, Redis, RedisOptions as IoRedisOptions } from 'ioredis'
import { startDeadline } from './deadline.js'

/** What every connection is opened with, also those that a cluster client opens to its nodes. */
export type NodeOptions = Omit<IoRedisOptions, 'replyMapping'>

/** Doubles from 50 ms; up to half of it is left to chance, so that many clients do not come back at one moment. */
export function backoffMs (attempt: number, mostMs: number): number {
  return Math.round(Math.min(50 * 2 ** Math.min(attempt - 1, 12), mostMs) * (1 - Math.random() / 2))
}

/** For every connection, before anybody else listens to it: what it says of itself holds no password, and its socket ends nobody's process. */
export function harden (redis: Redis): Redis {
  giveUpSilence(redis)
  redis.on('error', (error: Error & { command?: { args?: unknown } }) => {
    // The handshake's.
    if (error.command !== undefined) error.command = { ...error.command, args: [] }
    // A TLS socket that is given up during its handshake may fail twice; ioredis listens once.
    redis.stream?.on('error', () => {})
  })
  return conceal(redis)
}

/** How ioredis 6 gives up a connection that owes an answer: started by a command, and by data while more is owed. */
interface SilenceWatch {
  setSocketTimeout: () => void
  /** None is started while this is set. */
  socketTimeoutTimer: NodeJS.Timeout | undefined
}

/** As ioredis does it, but a busy event loop of our own is no silence. */
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
    // Called after ioredis's own listener, which takes what was answered from the queue.
    stream.once('data', () => {
      clearTimeout(timer)
      watch.socketTimeoutTimer = undefined
      if (redis.commandQueue.length > 0) watch.setSocketTimeout()
    })
  }
}

/** Logs and `console.log` show which client it is; its options hold the password. */
export function conceal<T extends Redis | Cluster> (client: T): T {
  const shown = (): string => `[redis client: ${client.status}]`
  Object.defineProperties(client, { [inspect.custom]: { value: shown }, toJSON: { value: shown } })
  return client
}

/** What ioredis 6 calls, and clears once the command is settled. */
interface CommandDeadline {
  _commandTimeoutTimer?: NodeJS.Timeout
}

/** In place of ioredis's own: its timer takes a busy event loop for a Redis that does not answer. */
export function setCommandDeadline (this: Command, ms: number): void {
  // A command that a cluster redirects keeps its first deadline.
  (this as unknown as CommandDeadline)._commandTimeoutTimer ??= startDeadline(ms, () => {
    if (!this.isSettled) this.reject(new Error('Command timed out'))
  })
}
