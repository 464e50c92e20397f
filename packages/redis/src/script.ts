import { createHash } from 'node:crypto'

/** What a script needs of a Redis client; an ioredis client, single or cluster, is one. */
export interface ScriptClient {
  evalsha (sha1: string, numberOfKeys: number, ...args: ScriptArgument[]): Promise<unknown>
  eval (script: string, numberOfKeys: number, ...args: ScriptArgument[]): Promise<unknown>
  /** Any command, with bytes in place of text in its answer. */
  callBuffer (command: string, args: ScriptArgument[]): Promise<unknown>
}

export type ScriptArgument = string | number | Buffer

export interface ScriptOptions {
  /** `buffer` for scripts that answer with bytes. @default 'text' */
  readonly answer?: 'text' | 'buffer'
}

/** Runs one Lua script, atomically, on any client. In a cluster all keys of one call must share a hash tag. */
export type RedisScript = (
  client: ScriptClient,
  keys: readonly string[],
  args: readonly ScriptArgument[]
) => Promise<unknown>

/** A Lua script that is sent by its hash, and whole only to a server that does not know it. */
export function redisScript (lua: string, { answer = 'text' }: ScriptOptions = {}): RedisScript {
  const sha1 = createHash('sha1').update(lua).digest('hex')
  return async (client, keys, args) => {
    const call = (command: 'evalsha' | 'eval', script: string): Promise<unknown> => answer === 'buffer'
      ? client.callBuffer(command, [script, keys.length, ...keys, ...args])
      : client[command](script, keys.length, ...keys, ...args)
    try {
      return await call('evalsha', sha1)
    } catch (error) {
      // The only failure after which it is certain that nothing was done, hence the only one that is sent again.
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
      return await call('eval', lua)
    }
  }
}
