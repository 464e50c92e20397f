import { redisScript, type RedisClient } from '@marty/redis'
import { AuthStoreUnavailable } from './errors.js'

export type StoreScript = (keys: readonly string[], args: ReadonlyArray<string | number>) => Promise<unknown>

/** One atomic step in Redis. Whatever goes wrong is `MARTY_AUTH_STORE_UNAVAILABLE`; how long that takes, the client decides. */
export function storeScript (redis: RedisClient, lua: string): StoreScript {
  const run = redisScript(lua)
  return async (keys, args) => {
    try {
      return await run(redis, keys, args)
    } catch (error) {
      // Its message alone: the error itself carries the arguments of the command.
      throw new AuthStoreUnavailable({
        headers: { 'retry-after': '1' },
        cause: error instanceof Error ? error.message : String(error)
      })
    }
  }
}
