import { spawn, execFile, type ChildProcess } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { eventually, freePorts } from '@marty/testing'
import t from 'tap'
import { RpcClient } from './rpc-client.js'

const run = promisify(execFile)
const dist = resolve(import.meta.dirname, '../dist')

/** What has not ended yet: after a failure it would keep the file from ending, and so from telling of the failure. */
const running = new Map<ChildProcess, Promise<unknown>>()
t.teardown(async () => {
  for (const child of running.keys()) child.kill('SIGTERM')
  await Promise.all(running.values())
})

export const PORT_SETTINGS = [
  'SERVER_PORT', 'HEALTH_PORT', 'MEDIAMTX_AUTH_PORT', 'MEDIAMTX_RTSP_PORT', 'MEDIAMTX_HLS_PORT', 'MEDIAMTX_WEBRTC_PORT',
  'MEDIAMTX_WEBRTC_UDP_PORT', 'MEDIAMTX_API_PORT', 'MEDIAMTX_METRICS_PORT', 'MEDIAMTX_PLAYBACK_PORT'
] as const

export type Ports = Record<(typeof PORT_SETTINGS)[number], number>

/** The service as its own process, the way an operator runs it. */
export interface RunningService {
  readonly process: ChildProcess
  readonly dataDir: string
  readonly ports: Ports
  readonly env: NodeJS.ProcessEnv
  /** Everything it has written so far. */
  readonly output: () => string
  readonly exited: Promise<{ code: number | null, signal: NodeJS.Signals | null }>
  token (role: string, ...more: string[]): Promise<string>
  /** Runs the API key command and answers what it prints. */
  apiKey (...args: string[]): Promise<string>
  connect (role?: string): Promise<RpcClient>
  /** Ends it, and fails if it does not end in order. */
  stop (): Promise<void>
}

export interface StartOptions {
  readonly env?: Record<string, string>
  readonly dataDir?: string
  readonly ports?: Ports
  /** Resolve at once instead of when the service has said where it is. */
  readonly dontWait?: boolean
  /** @default 60000 */
  readonly startDeadlineMs?: number
}

export async function startService (options: StartOptions = {}): Promise<RunningService> {
  const dataDir = options.dataDir ?? await mkdtemp(join(tmpdir(), 'camera-service-'))
  const ports = options.ports ?? await freeServicePorts()
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    CAMERA_SERVICE_DATA_DIR: dataDir,
    CAMERA_SERVICE_CAMERAS_V4L2: 'false',
    ...Object.fromEntries(PORT_SETTINGS.map(name => [`CAMERA_SERVICE_${name}`, String(ports[name])])),
    ...options.env
  }
  const child = spawn(process.execPath, [join(dist, 'server.js')], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', chunk => { text += chunk })
  child.stderr.setEncoding('utf8').on('data', chunk => { text += chunk })
  let ended = false
  const exited = new Promise<{ code: number | null, signal: NodeJS.Signals | null }>(resolve => {
    child.once('close', (code, signal) => {
      ended = true
      running.delete(child)
      resolve({ code, signal })
    })
  })
  running.set(child, exited)
  const service: RunningService = {
    process: child,
    dataDir,
    ports,
    env,
    output: () => text,
    exited,
    async token (role, ...more) {
      const { stdout } = await run(process.execPath, [join(dist, 'commands/token.js'), '--role', role, ...more], { env })
      return stdout.trim()
    },
    async apiKey (...args) {
      return (await run(process.execPath, [join(dist, 'commands/api-key.js'), ...args], { env })).stdout.trim()
    },
    async connect (role) {
      // The token first: on a slow machine making one takes longer than the service waits for a client to sign in.
      const token = role === undefined ? null : await service.token(role)
      const client = await RpcClient.connect(`ws://127.0.0.1:${ports.SERVER_PORT}/ws`)
      if (token !== null) await client.call('authenticate', { auth_token: token })
      return client
    },
    async stop () {
      if (!ended) child.kill('SIGTERM')
      const { code, signal } = await exited
      if (options.dataDir === undefined) await rm(dataDir, { recursive: true, force: true })
      if (code !== 0) throw new Error(`the service ended with ${code ?? signal}:\n${text.slice(-4000)}`)
    }
  }
  if (options.dontWait !== true) {
    await eventually(async () => {
      if (ended) throw new Error(`the service has ended:\n${text}`)
      if (!text.includes('npm run -s token')) throw new Error(`not started:\n${text.slice(-2000)}`)
    }, options.startDeadlineMs ?? 60_000)
  }
  return service
}

/** A free port for each of the service's listeners. */
export async function freeServicePorts (): Promise<Ports> {
  const ports = await freePorts(PORT_SETTINGS.length)
  return Object.fromEntries(PORT_SETTINGS.map((name, index) => [name, ports[index]])) as Ports
}

/** Process ids whose command line mentions a text, such as a data folder. */
export async function processesMentioning (text: string): Promise<number[]> {
  const found: number[] = []
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const commandLine = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '')
    if (commandLine.includes(text)) found.push(Number(entry))
  }
  return found
}

/** ffprobe's view of a file or URL; throws when it cannot be played. */
export async function ffprobe (
  target: string,
  ...options: string[]
): Promise<{ format: { duration?: string }, streams: Array<{ codec_name: string, width: number, height: number }> }> {
  const { stdout } = await run(
    'ffprobe',
    ['-v', 'error', ...options, '-print_format', 'json', '-show_format', '-show_streams', target],
    { timeout: 60_000 }
  )
  return JSON.parse(stdout)
}
