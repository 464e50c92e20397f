import type { RedisClient, RedisOptions } from '@marty/redis'
import { UsageError, type Values } from './command.js'
import { text } from './values.js'

/**
 * Connects to the Redis of `--redis`, or of `MARTY_REDIS_URL`, which keeps a password out of the process
 * list. If it is a node of a cluster, connects to the whole cluster.
 */
export async function withRedis<Result> (
  values: Values,
  work: (redis: RedisClient) => Promise<Result>
): Promise<Result> {
  const { environment } = await import('@marty/config')
  const url = text(values, 'redis') ?? environment('MARTY_REDIS_URL')
  if (url === undefined) {
    throw new UsageError('say which Redis: --redis redis://HOST:PORT, or the variable MARTY_REDIS_URL')
  }
  const answer = await using({ url }, async redis =>
    (await isOfCluster(redis)) ? null : { result: await work(redis) }
  )
  return answer === null ? await using(clusterOf(new URL(url)), work) : answer.result
}

async function using<Result> (options: RedisOptions, work: (redis: RedisClient) => Promise<Result>): Promise<Result> {
  const { openRedis } = await import('@marty/redis')
  const redis = openRedis({ ...options, commandTimeoutMs: 2_000 })
  try {
    await redis.ready(5_000)
    return await work(redis.client)
  } finally {
    await redis.close()
  }
}

/** If the user may not run INFO, assume that the URL is right and it is not a cluster. */
async function isOfCluster (redis: RedisClient): Promise<boolean> {
  return (await redis.info('cluster').catch(() => '')).includes('cluster_enabled:1')
}

function clusterOf ({ hostname, port, username, password, protocol }: URL): RedisOptions {
  return {
    cluster: [{ host: hostname.replace(/^\[(.*)\]$/, '$1'), port: port === '' ? 6379 : Number(port) }],
    ...(username === '' ? {} : { username: decodeURIComponent(username) }),
    ...(password === '' ? {} : { password: decodeURIComponent(password) }),
    ...(protocol === 'rediss:' ? { tls: true } : {})
  }
}
