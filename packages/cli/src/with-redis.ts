import type { RedisClient, RedisOptions } from '@marty/redis'
import { UsageError, type Values } from './command.js'
import { text } from './values.js'

/** Works with the Redis of `--redis`, or of the variable that keeps a password out of the process list; with all of its cluster when it is a node of one. */
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

/** A user who may not ask is taken at the word of the URL. */
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
