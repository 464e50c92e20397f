import { createHash } from 'node:crypto'

/** What a script needs of a Redis client; an ioredis client, single or cluster, is one. */
export interface ScriptClient {
  evalsha (sha1: string, numberOfKeys: number, ...args: Array<string | number>): Promise<unknown>
  eval (script: string, numberOfKeys: number, ...args: Array<string | number>): Promise<unknown>
}

/** Runs one Lua script, atomically, on any client. In a cluster all keys of one call must share a hash tag. */
export type RedisScript = (client: ScriptClient, keys: readonly string[], args: ReadonlyArray<string | number>) => Promise<unknown>

/** A Lua script that is sent by its hash, and whole only to a server that does not know it. */
export function redisScript (lua: string): RedisScript {
  const sha1 = createHash('sha1').update(lua).digest('hex')
  return async (client, keys, args) => {
    try {
      return await client.evalsha(sha1, keys.length, ...keys, ...args)
    } catch (error) {
      // The only failure after which it is certain that nothing was done, hence the only one that is sent again.
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
      return await client.eval(lua, keys.length, ...keys, ...args)
    }
  }
}
