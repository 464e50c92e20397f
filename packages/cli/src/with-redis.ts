import type { RedisClient } from '@marty/redis'
import { UsageError, type Values } from './command.js'
import { text } from './values.js'

/** Works with the Redis of `--redis`, or of the variable that keeps a password out of the process list. */
export async function withRedis<Result> (values: Values, work: (redis: RedisClient) => Promise<Result>): Promise<Result> {
  const { environment } = await import('@marty/config')
  const url = text(values, 'redis') ?? environment('MARTY_REDIS_URL')
  if (url === undefined) throw new UsageError('say which Redis: --redis redis://HOST:PORT, or the variable MARTY_REDIS_URL')
  const { openRedis } = await import('@marty/redis')
  const redis = openRedis({ url, commandTimeoutMs: 2_000 })
  try {
    await redis.ready(5_000)
    return await work(redis.client)
  } finally {
    await redis.close()
  }
}
