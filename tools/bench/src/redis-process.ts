import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A separate Redis for the bench, without persistence. */
export interface RedisProcess {
  readonly port: number
  stop (): Promise<void>
}

export async function startRedisProcess (): Promise<RedisProcess> {
  const port = await freePort()
  const folder = await mkdtemp(join(tmpdir(), 'marty-bench-redis-'))
  const child = spawn(
    'redis-server',
    ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--appendonly', 'no'],
    { stdio: ['ignore', 'pipe', 'inherit'] }
  )
  const failed = once(child, 'error').then(([error]) => {
    throw new Error('the bench needs redis-server: npm run setup -- --for test', { cause: error })
  })
  const ended = once(child, 'exit').then(() => { throw new Error('redis-server ended before it was ready') })
  let output = ''
  const ready = new Promise<void>(resolve => {
    child.stdout.on('data', chunk => {
      if (output.includes('Ready to accept')) return
      output += String(chunk)
      if (output.includes('Ready to accept')) resolve()
    })
  })
  await Promise.race([ready, failed, ended])
  // From here on, the end of the process is expected and not an error.
  ended.catch(() => {})
  failed.catch(() => {})
  return {
    port,
    async stop () {
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
      await rm(folder, { recursive: true, force: true })
    }
  }
}

async function freePort (): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  probe.close()
  await once(probe, 'close')
  return port
}
