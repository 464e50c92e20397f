import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { until } from './until.js'

export interface RedisServer {
  readonly port: number
  readonly child: ChildProcess
  stop (signal?: NodeJS.Signals): Promise<void>
}

/** A real redis-server on its own port and in its own folder; stop it with `stop()`. */
export async function startRedis (port: number, args: readonly string[] = [], config?: string): Promise<RedisServer> {
  const folder = mkdtempSync(join(tmpdir(), 'marty-redis-'))
  const child = spawn(findRedisServer(), [
    ...(config === undefined ? [] : [config]),
    '--port', String(port), '--bind', '127.0.0.1', '--dir', folder,
    ...(config === undefined ? ['--save', '', '--appendonly', 'no'] : []),
    ...args
  ], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  child.stdout?.on('data', chunk => { output += String(chunk) })
  child.stderr?.on('data', chunk => { output += String(chunk) })
  const server: RedisServer = {
    port,
    child,
    async stop (signal = 'SIGKILL') {
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, 'exit')
        child.kill('SIGCONT')
        child.kill(signal)
        await exited
      }
      rmSync(folder, { recursive: true, force: true })
    }
  }
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`redis-server ended: ${output}`)
    return await connects(port)
  }, 'redis-server to listen')
  return server
}

/** Runs one command with `redis-cli`. Blocks this process until it is done. */
export function redisCli (port: number, ...args: readonly string[]): string {
  return execFileSync('redis-cli', ['-p', String(port), ...args], { encoding: 'utf8' }).trim()
}

function findRedisServer (): string {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = join(folder, 'redis-server')
    try {
      accessSync(file, constants.X_OK)
      return file
    } catch {}
  }
  throw new Error('redis-server is not on PATH; install it: apt-get install redis-server')
}

async function connects (port: number): Promise<boolean> {
  const socket = createConnection(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
