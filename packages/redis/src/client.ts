import { Redis, type Cluster, type Command } from 'ioredis'
import { createCluster } from './cluster.js'
import { backoffMs, conceal, harden, setCommandDeadline, type NodeOptions } from './harden.js'
import type { ResolvedRedisOptions } from './options.js'

export type RedisClient = Redis | Cluster

/** Creates the ioredis client, configured so that no request ever waits for an unreachable Redis. */
export function createClient (options: ResolvedRedisOptions): RedisClient {
  const perNode: NodeOptions = {
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    commandTimeout: options.commandTimeoutMs,
    connectTimeout: options.connectTimeoutMs,
    disconnectTimeout: options.commandTimeoutMs,
    // ioredis keeps timed-out commands in its queue until their connection closes. A connection to a server that no
    // longer answers must therefore be closed, or the queue grows for as long as the server stays frozen.
    socketTimeout: silenceLimitMs(options),
    // Skip `CLIENT SETINFO`: Redis before 7.2 does not support it, and a restricted ACL user may not run it.
    disableClientInfo: true,
    ...(options.username === undefined ? {} : { username: options.username }),
    ...(options.password === undefined ? {} : { password: options.password }),
    ...(options.tls === undefined ? {} : { tls: options.tls }),
    ...(options.connectionName === undefined ? {} : { connectionName: options.connectionName })
  }
  if (options.mode === 'cluster') return conceal(createCluster(options, perNode))
  const direct: NodeOptions = {
    ...perNode,
    enableOfflineQueue: false,
    retryStrategy: attempt => backoffMs(attempt, options.reconnectMaxDelayMs),
    // The master has become a replica while the connection stayed open. A new connection leads to the new master.
    reconnectOnError: error => error.message.startsWith('READONLY'),
    db: options.db
  }
  if (options.mode === 'sentinel') {
    return harden(new PatientRedis({
      ...direct,
      sentinels: options.nodes.map(node => ({ ...node })),
      ...(options.name === undefined ? {} : { name: options.name }),
      sentinelRetryStrategy: attempt => backoffMs(attempt, options.reconnectMaxDelayMs),
      sentinelCommandTimeout: options.connectTimeoutMs,
      ...(options.sentinelUsername === undefined ? {} : { sentinelUsername: options.sentinelUsername }),
      ...(options.sentinelPassword === undefined ? {} : { sentinelPassword: options.sentinelPassword }),
      ...(options.tls === undefined ? {} : { sentinelTLS: options.tls, enableTLSForSentinelMode: true })
    }))
  }
  const node = options.nodes[0]!
  return harden(new PatientRedis({ ...direct, host: node.host, port: node.port }))
}

class PatientRedis extends Redis {
  override sendCommand (command: Command, stream?: Parameters<Redis['sendCommand']>[1]): unknown {
    command.setTimeout = setCommandDeadline
    return super.sendCommand(command, stream)
  }
}

/** A connection is closed when an answer is outstanding for this long. Milliseconds. */
export function silenceLimitMs ({ commandTimeoutMs }: ResolvedRedisOptions): number {
  return Math.max(1_000, commandTimeoutMs * 4)
}
