import type { RedisClient } from '@marty/redis'
import { redisScript } from '@marty/redis/script'
import { AuthStoreUnavailable } from './errors.js'

export type StoreScript = (keys: readonly string[], args: ReadonlyArray<string | number>) => Promise<unknown>

/**
 * Runs a Lua script as one atomic step in Redis. Any failure becomes `MARTY_AUTH_STORE_UNAVAILABLE`;
 * the client's own options decide how long that takes.
 */
export function storeScript (redis: RedisClient, lua: string): StoreScript {
  const run = redisScript(lua)
  return async (keys, args) => {
    try {
      return await run(redis, keys, args)
    } catch (error) {
      // Keep only the message: the error object contains the arguments of the command.
      throw new AuthStoreUnavailable({
        headers: { 'retry-after': '1' },
        cause: error instanceof Error ? error.message : String(error)
      })
    }
  }
}
