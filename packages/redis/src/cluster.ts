import { Cluster, Redis, type Command } from 'ioredis'
import { backoffMs, harden, setCommandDeadline, type NodeOptions } from './harden.js'
import type { ResolvedRedisOptions } from './options.js'

/**
 * ioredis's cluster client, which by itself makes commands wait for nodes and slots, and looks for a lost node only when
 * a command needs it. This one fails at once instead, connects to every master beforehand and looks for lost ones by itself.
 */
export function createCluster (options: ResolvedRedisOptions, perNode: NodeOptions): Cluster {
  const { connectTimeoutMs, reconnectMaxDelayMs } = options
  const cluster = new FailFastCluster(options.nodes.map(node => ({ ...node })), {
    enableOfflineQueue: false,
    // It would ask a node that is still being connected to, and begin anew when that fails. `isWhole` asks more.
    enableReadyCheck: false,
    maxRedirections: 4,
    // What these would delay waits, without a deadline, for the slots to be learned anew.
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
    // Slots are asked for over a connection of their own, for whose set-up the deadline of a command is too short.
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

  /** A pipeline made before the slots were ever known would wait for them, after `close()` for ever. */
  override delayUntilReady (callback: (error: Error) => void): void {
    callback(new Error('The cluster is not ready'))
  }
}

/** Whether every slot has a master, and every such master a connection. */
export function isWhole (cluster: Cluster): boolean {
  if (cluster.status !== 'ready' || cluster.slots.length < 16_384) return false
  const masters = new Set<string | undefined>()
  // Not for-of's to skip: a slot nobody holds is a hole in the array.
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
