import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'

export interface RedisServer {
  readonly process: ChildProcess
  /** Its Unix socket: no port can be taken by somebody else. */
  readonly path: string
  /** A client that fails fast, as the limiter asks for. */
  connect(): Promise<Redis>
}

interface Teardown {
  teardown(handler: () => unknown): void
}

/** A real Redis of its own for one test file. */
export async function startRedis (t: Teardown): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), 'marty-limit-'))
  const path = join(folder, 'redis.sock')
  const server = spawn(
    'redis-server',
    ['--port', '0', '--unixsocket', path, '--save', '', '--appendonly', 'no', '--dir', folder],
    { stdio: ['ignore', 'pipe', 'inherit'] }
  )
  t.teardown(async () => {
    server.kill('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', error => {
      reject(
        new Error('these tests need redis-server on the PATH; install it (Debian: apt-get install redis-server)', {
          cause: error
        })
      )
    })
    server.once('exit', code => {
      reject(new Error(`redis-server ended with code ${code} before it was ready`))
    })
    server.stdout.on('data', (chunk: Buffer) => {
      if (chunk.includes('ready to accept connections')) resolve()
    })
  })
  const connect = async (): Promise<Redis> => {
    const client = new Redis({
      path,
      lazyConnect: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      retryStrategy: () => 50
    })
    client.on('error', () => {
      /* outages are part of these tests */
    })
    t.teardown(() => {
      client.disconnect()
    })
    await client.connect()
    return client
  }
  return { process: server, path, connect }
}

/** Redis's clock in microseconds. */
export async function timeUs (client: Redis): Promise<number> {
  const [seconds, microseconds] = await client.time()
  return Number(seconds) * 1_000_000 + Number(microseconds)
}
