import { Cluster, Redis, type Command } from 'ioredis'
import { backoffMs, harden, setCommandDeadline, type NodeOptions } from './harden.js'
import type { ResolvedRedisOptions } from './options.js'

/**
 * Creates the ioredis cluster client. By default, ioredis lets commands wait for nodes and slots, and reconnects to a
 * lost node only when a command needs it. This client fails such commands immediately, connects to every master in
 * advance, and reconnects to lost masters in the background.
 */
export function createCluster (options: ResolvedRedisOptions, perNode: NodeOptions): Cluster {
  const { connectTimeoutMs, reconnectMaxDelayMs } = options
  const cluster = new FailFastCluster(options.nodes.map(node => ({ ...node })), {
    enableOfflineQueue: false,
    // The ready check would query a node that is still connecting, and start again when that fails. `isWhole` is
    // stricter.
    enableReadyCheck: false,
    maxRedirections: 4,
    // With a delay, commands would wait, without a deadline, until the slots have been refreshed.
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    retryDelayOnTryAgain: 10,
    slotsRefreshTimeout: connectTimeoutMs,
    clusterRetryStrategy: attempt => backoffMs(attempt, reconnectMaxDelayMs),
    redisOptions: perNode
  })

  let attempts = 0
  let timer: ReturnType<typeof setTimeout> | null = null
  const look = (): void => {
    timer ??= setTimeout(() => {
      timer = null
      if (isWhole(cluster)) attempts = 0
      else if (cluster.status === 'ready') cluster.refreshSlotsCache(look)
    }, backoffMs(++attempts, reconnectMaxDelayMs)).unref()
  }
  cluster.on('ready', look)
  cluster.on('-node', look)
  cluster.on('+node', (node: Redis) => {
    harden(node)
    // ioredis reads the slots over a separate connection. The command deadline is too short for setting it up.
    node.duplicate = override =>
      harden(Redis.prototype.duplicate.call(node, { ...override, commandTimeout: connectTimeoutMs }))
    if (node.options.readOnly !== true) node.connect().catch(() => {})
  })
  return cluster
}

class FailFastCluster extends Cluster {
  override sendCommand (
    command: Command,
    ...where: [stream?: Parameters<Cluster['sendCommand']>[1], node?: unknown]
  ): unknown {
    command.setTimeout = setCommandDeadline
    return super.sendCommand(command, ...where)
  }

  /**
   * ioredis calls this for a pipeline that was created before the slots are known. The method of ioredis waits for the
   * slots, and after `close()` it waits forever. This method fails the pipeline immediately.
   */
  override delayUntilReady (callback: (error: Error) => void): void {
    callback(new Error('The cluster is not ready'))
  }
}

/** Whether every slot has a master, and every master a ready connection. */
export function isWhole (cluster: Cluster): boolean {
  if (cluster.status !== 'ready' || cluster.slots.length < 16_384) return false
  const masters = new Set<string | undefined>()
  // Count by index: a slot without a node is a hole in the array and must not be overlooked.
  for (let slot = 0; slot < 16_384; slot++) masters.add(cluster.slots[slot]?.[0])
  const connected = new Set(
    cluster
      .nodes('master')
      .filter(node => node.status === 'ready')
      .map(({ options: { host, port } }) => `${host}:${port}`)
  )
  for (const master of masters) if (master === undefined || !connected.has(master)) return false
  return true
}
