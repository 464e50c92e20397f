import { createHash } from 'node:crypto'

/** The part of a Redis client that a script needs. ioredis clients, single or cluster, provide it. */
export interface ScriptClient {
  evalsha (sha1: string, numberOfKeys: number, ...args: ScriptArgument[]): Promise<unknown>
  eval (script: string, numberOfKeys: number, ...args: ScriptArgument[]): Promise<unknown>
  /** Sends any command and returns bytes instead of strings. */
  callBuffer (command: string, args: ScriptArgument[]): Promise<unknown>
}

export type ScriptArgument = string | number | Buffer

export interface ScriptOptions {
  /** `buffer` for scripts that return bytes. @default 'text' */
  readonly answer?: 'text' | 'buffer'
}

/** Runs a Lua script atomically on any client. In a cluster, all keys of one call must share a hash tag. */
export type RedisScript = (
  client: ScriptClient,
  keys: readonly string[],
  args: readonly ScriptArgument[]
) => Promise<unknown>

/** Creates a function that runs a Lua script by its hash. The source is sent only to a server that lacks the script. */
export function redisScript (lua: string, { answer = 'text' }: ScriptOptions = {}): RedisScript {
  const sha1 = createHash('sha1').update(lua).digest('hex')
  return async (client, keys, args) => {
    const call = (command: 'evalsha' | 'eval', script: string): Promise<unknown> => answer === 'buffer'
      ? client.callBuffer(command, [script, keys.length, ...keys, ...args])
      : client[command](script, keys.length, ...keys, ...args)
    try {
      return await call('evalsha', sha1)
    } catch (error) {
      // Only after this error is it certain that the script did not run, so only then is it sent again.
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
      return await call('eval', lua)
    }
  }
}
