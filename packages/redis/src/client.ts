import { Cluster, Redis, type RedisOptions as IoRedisOptions } from 'ioredis'
import type { ResolvedRedisOptions } from './options.js'

type ClientOptions = Omit<IoRedisOptions, 'replyMapping'>

/** The ioredis client for the resolved options, tuned so that no request ever waits on a Redis that is away. */
export function createClient (options: ResolvedRedisOptions): Redis | Cluster {
  const backoff = (attempt: number): number => Math.min(50 * 2 ** Math.min(attempt - 1, 12), options.reconnectMaxDelayMs)
  const perNode: ClientOptions = {
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    commandTimeout: options.commandTimeoutMs,
    connectTimeout: options.connectTimeoutMs,
    disconnectTimeout: options.commandTimeoutMs,
    // Commands that timed out stay queued in ioredis until their connection goes: a server that has stopped
    // answering must lose it, or the queue grows for as long as it stays frozen.
    socketTimeout: Math.max(1_000, options.commandTimeoutMs * 4),
    ...(options.username === undefined ? {} : { username: options.username }),
    ...(options.password === undefined ? {} : { password: options.password }),
    ...(options.tls === undefined ? {} : { tls: options.tls }),
    ...(options.connectionName === undefined ? {} : { connectionName: options.connectionName })
  }

  if (options.mode === 'cluster') {
    return new Cluster(options.nodes.map(node => ({ ...node })), {
      enableOfflineQueue: false,
      // A command that is redirected is still bound by its deadline, which starts when it is first sent.
      maxRedirections: 4,
      retryDelayOnFailover: Math.min(20, options.commandTimeoutMs),
      retryDelayOnClusterDown: Math.min(20, options.commandTimeoutMs),
      slotsRefreshTimeout: options.connectTimeoutMs,
      clusterRetryStrategy: backoff,
      redisOptions: perNode
    })
  }
  const direct: ClientOptions = { ...perNode, enableOfflineQueue: false, retryStrategy: backoff, db: options.db }
  if (options.mode === 'sentinel') {
    return new Redis({
      ...direct,
      sentinels: options.nodes.map(node => ({ ...node })),
      ...(options.name === undefined ? {} : { name: options.name }),
      sentinelRetryStrategy: backoff,
      sentinelCommandTimeout: options.connectTimeoutMs,
      ...(options.sentinelUsername === undefined ? {} : { sentinelUsername: options.sentinelUsername }),
      ...(options.sentinelPassword === undefined ? {} : { sentinelPassword: options.sentinelPassword }),
      ...(options.tls === undefined ? {} : { sentinelTLS: options.tls, enableTLSForSentinelMode: true })
    })
  }
  const node = options.nodes[0]!
  return new Redis({ ...direct, host: node.host, port: node.port })
}
