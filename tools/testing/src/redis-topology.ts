import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openRedis, type RedisClient, type RedisNode } from '@marty/redis'
import { freePort } from './ports.js'
import { startRedis, type RedisServer } from './redis-server.js'
import type { Teardown } from './teardown.js'
import { until } from './until.js'

const DOWN_AFTER_MS = 1_000

export interface Sentinels {
  readonly sentinels: readonly RedisNode[]
  readonly master: RedisServer
  readonly replica: RedisServer
}

/** A master, its replica with the link up, and three sentinels that agree on them under the name `main`. */
export async function startSentinels (t: Teardown): Promise<Sentinels> {
  const master = await server(t)
  const replica = await server(t, ['--replicaof', '127.0.0.1', String(master.port)])
  await linkUp(replica)
  const folder = mkdtempSync(join(tmpdir(), 'marty-sentinel-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  const sentinels = await Promise.all([1, 2, 3].map(async number => {
    const config = join(folder, `sentinel-${number}.conf`)
    writeFileSync(config, [
      `sentinel monitor main 127.0.0.1 ${master.port} 2`,
      `sentinel down-after-milliseconds main ${DOWN_AFTER_MS}`,
      'sentinel failover-timeout main 3000', ''
    ].join('\n'))
    const sentinel = await startRedis(await freePort(), ['--sentinel'], config)
    t.teardown(() => sentinel.stop())
    return { host: '127.0.0.1', port: sentinel.port }
  }))
  await Promise.all(sentinels.map(({ port }) => ask(port, async client => {
    await until(async () => {
      const reply = String(await client.call('SENTINEL', 'MASTER', 'main'))
      return reply.includes('num-slaves,1') && reply.includes('num-other-sentinels,2')
    }, 'the sentinels to know each other and the replica', 30_000)
  })))
  return { sentinels, master, replica }
}

export interface ClusterOfSix {
  /** Masters 0 to 2 hold a third of the slots each; 3 to 5 are their replicas. */
  readonly servers: readonly RedisServer[]
  readonly nodes: readonly RedisNode[]
}

/** Three masters and three replicas, every link up, every node agreeing that the cluster is complete. */
export async function startCluster (t: Teardown): Promise<ClusterOfSix> {
  const servers = await Promise.all([0, 1, 2, 3, 4, 5].map(async () => await server(t, await clusterArgs())))
  const each = <T>(work: (client: RedisClient, index: number) => Promise<T>): Promise<T[]> =>
    Promise.all(servers.map(({ port }, index) => ask(port, client => work(client, index))))

  const ids = await each(async client => String(await client.call('CLUSTER', 'MYID')))
  await each(async (client, index) => {
    await client.call('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1))
    if (index < 3) await client.call('CLUSTER', 'ADDSLOTSRANGE', String([0, 5461, 10923][index]), String([5460, 10922, 16383][index]))
    if (index > 0) await client.call('CLUSTER', 'MEET', '127.0.0.1', String(servers[0]!.port), String(busPort(servers[0]!)))
  })
  await each(client => until(async () => {
    const nodes = String(await client.call('CLUSTER', 'NODES'))
    return (nodes.match(/ connected/g) ?? []).length === 6
  }, 'the nodes to have met', 30_000))
  await each(async (client, index) => {
    if (index >= 3) await client.call('CLUSTER', 'REPLICATE', ids[index - 3]!)
  })
  await Promise.all(servers.slice(3).map(linkUp))
  await each(client => until(async () => {
    const nodes = String(await client.call('CLUSTER', 'NODES'))
    return (nodes.match(/ slave |,slave /g) ?? []).length === 3 && String(await client.call('CLUSTER', 'INFO')).includes('cluster_state:ok')
  }, 'the cluster to be ok', 30_000))
  return { servers, nodes: servers.map(({ port }) => ({ host: '127.0.0.1', port })) }
}

/** Arguments of a node that is not part of a cluster yet. */
export async function clusterArgs (): Promise<string[]> {
  return [
    '--cluster-enabled', 'yes', '--cluster-node-timeout', String(DOWN_AFTER_MS),
    '--cluster-port', String(await freePort()), '--repl-diskless-sync-delay', '0'
  ]
}

/** Runs commands on one server over a separate connection. */
export async function ask<T> (port: number, work: (client: RedisClient) => Promise<T>): Promise<T> {
  const redis = openRedis({ port, commandTimeoutMs: 5_000 })
  try {
    await redis.ready(10_000)
    return await work(redis.client)
  } finally {
    await redis.close()
  }
}

async function server (t: Teardown, args: readonly string[] = []): Promise<RedisServer> {
  const redis = await startRedis(await freePort(), ['--repl-diskless-sync-delay', '0', ...args])
  t.teardown(() => redis.stop())
  return redis
}

/** A master that dies before its replica has caught up cannot be replaced. */
async function linkUp ({ port }: RedisServer): Promise<void> {
  await ask(port, client => until(async () => {
    return String(await client.info('replication')).includes('master_link_status:up')
  }, 'the replica to have caught up', 30_000))
}

function busPort ({ child }: RedisServer): number {
  return Number(child.spawnargs[child.spawnargs.indexOf('--cluster-port') + 1])
}
