import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { PortsBusy } from './errors.js'
import type { CameraServiceConfig } from './schema.js'

/** A port that must be free, and the setting that chooses it. */
interface WantedPort {
  readonly setting: string
  readonly host: string
  readonly port: number
  readonly protocol?: 'tcp' | 'udp'
}

/** How long to wait for another process that is closing its ports. */
const CLOSING_MS = 5000
const RETRY_MS = 50

/**
 * Throws `MARTY_CAMERA_PORTS_BUSY` when a port that the configuration uses is not free. With `areClosing`, another
 * process is just closing its ports and gets some time for it.
 */
export async function assertPortsAreFree (config: CameraServiceConfig, areClosing: boolean): Promise<void> {
  const deadline = performance.now() + (areClosing ? CLOSING_MS : 0)
  const wanted = portsOf(config)
  for (;;) {
    const problems = await busyPorts(wanted)
    if (problems.length === 0) return
    if (performance.now() >= deadline) throw new PortsBusy({ message: problems.join('\n') })
    await delay(RETRY_MS)
  }
}

/** Every port that the configuration uses. */
function portsOf ({ server: { host, port }, health, mediamtx }: CameraServiceConfig): WantedPort[] {
  const local = '127.0.0.1'
  return [
    { setting: 'server.port', host, port },
    { setting: 'health.port', host, port: health.port },
    { setting: 'mediamtx.auth_port', host: local, port: mediamtx.auth_port },
    { setting: 'mediamtx.rtsp_port', host, port: mediamtx.rtsp_port },
    { setting: 'mediamtx.hls_port', host, port: mediamtx.hls_port },
    { setting: 'mediamtx.webrtc_port', host, port: mediamtx.webrtc_port },
    { setting: 'mediamtx.webrtc_udp_port', host, port: mediamtx.webrtc_udp_port, protocol: 'udp' },
    { setting: 'mediamtx.api_port', host: local, port: mediamtx.api_port },
    { setting: 'mediamtx.metrics_port', host: local, port: mediamtx.metrics_port },
    { setting: 'mediamtx.playback_port', host: local, port: mediamtx.playback_port }
  ]
}

/** Returns a sentence for each port that is not free. Port 0 is always free. */
async function busyPorts (wanted: readonly WantedPort[]): Promise<string[]> {
  const problems: string[] = []
  const seen = new Map<string, string>()
  for (const { setting, host, port, protocol = 'tcp' } of wanted) {
    if (port === 0) continue
    const other = seen.get(`${protocol} ${port}`)
    if (other !== undefined) problems.push(`${setting} and ${other} are both ${port}: choose two different ports`)
    seen.set(`${protocol} ${port}`, setting)
    const code = await (protocol === 'udp' ? tryUdp(host, port) : tryTcp(host, port))
    if (code !== null) problems.push(explain(code, setting, host, port, protocol))
  }
  return problems
}

function explain (code: string, setting: string, host: string, port: number, protocol: string): string {
  const what = `${protocol === 'udp' ? 'UDP port' : 'port'} ${port} (${setting})`
  switch (code) {
    case 'EADDRINUSE':
      return `${what} is in use: end the program that uses it, or set ${setting} to another port`
    case 'EACCES':
      return `${what} may be opened by root only: set ${setting} to a port above 1023`
    case 'EADDRNOTAVAIL':
      return `${what} cannot be opened on ${host}: no interface of this machine has that address; check server.host`
    default:
      return `${what} cannot be opened on ${host} (${code})`
  }
}

function tryTcp (host: string, port: number): Promise<string | null> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => { resolve(error.code ?? error.message) })
    server.listen({ host, port, exclusive: true }, () => server.close(() => { resolve(null) }))
  })
}

function tryUdp (host: string, port: number): Promise<string | null> {
  return new Promise(resolve => {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.close()
      resolve(error.code ?? error.message)
    })
    socket.bind({ address: host, port, exclusive: true }, () => socket.close(() => { resolve(null) }))
  })
}
