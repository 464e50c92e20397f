import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { openRedis, type RedisConnection } from '@marty/redis'
import type { ResolvedAuthStore } from '@marty/auth'
import { freePort, type RedisServer, startRedis, until } from '@marty/testing'

export interface TestRedis {
  readonly port: number
  server: RedisServer
  /** Another connection, as another replica would have it. */
  connect(options?: {
    readonly username?: string
    readonly password?: string
    readonly commandTimeoutMs?: number
  }): Promise<RedisConnection>
  /** Kills the server and starts another in its place, empty unless the arguments say otherwise. */
  restart(args?: readonly string[]): Promise<void>
}

/** A real Redis for one test file. */
export async function testRedis (t: Test, args: readonly string[] = []): Promise<TestRedis> {
  const port = await freePort()
  const connections: RedisConnection[] = []
  const redis: TestRedis = {
    port,
    server: await startRedis(port, args),
    async connect (options = {}) {
      const connection = openRedis({ host: '127.0.0.1', port, reconnectMaxDelayMs: 50, ...options })
      connections.push(connection)
      await connection.ready(10_000)
      return connection
    },
    async restart (args = []) {
      await redis.server.stop()
      redis.server = await startRedis(port, args)
    }
  }
  t.teardown(async () => {
    await Promise.all(connections.map(async connection => { await connection.close() }))
    await redis.server.stop()
  })
  return redis
}

/** A folder with the data of a server as they are now, for another to start with. */
export async function snapshot (t: Test, { client }: RedisConnection): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'marty-state-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  const before = await client.lastsave()
  // On a slow disk it takes longer than the client waits.
  await client.save().catch(() => {})
  await until(
    async () =>
      (await client.lastsave().catch(() => before)) > before ||
      (await client.save().then(
        () => true,
        () => false
      )),
    'the snapshot'
  )
  const [, from] = await client.config('GET', 'dir') as [string, string]
  copyFileSync(join(from, 'dump.rdb'), join(folder, 'dump.rdb'))
  return folder
}

let prefixes = 0

/** Somewhere to keep state that no other test uses. */
export function storeOf (
  { client }: RedisConnection,
  prefix = `test:${++prefixes}`
): Exclude<ResolvedAuthStore, 'memory'> {
  return { redis: client, prefix }
}

/** A command that must succeed, repeated while a busy machine makes it miss its 50 ms. */
export async function insist<T> (action: () => Promise<T>): Promise<T> {
  const end = Date.now() + 15_000
  for (;;) {
    try {
      return await action()
    } catch (error) {
      if ((error as { code?: string }).code !== 'MARTY_AUTH_STORE_UNAVAILABLE' || Date.now() > end) throw error
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}
