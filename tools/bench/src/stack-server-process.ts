import { Session } from 'node:inspector'
import type { AddressInfo } from 'node:net'
import type { Server, ServerOptions } from './stack-servers.js'

/** What a server has cost when it accepts requests. */
export interface Started {
  readonly port: number
  readonly token: string | null
  readonly cpuMs: number
  readonly rssMb: number
  /** Source files that were loaded; null unless they were counted, which makes the start slower. */
  readonly files: number | null
}

/** Since the process began. */
export interface Usage {
  readonly cpuUs: number
  readonly heapBytes: number
}

const [name = '', options = '{}', countsFiles = ''] = process.argv.slice(2)
let files = 0
if (countsFiles === 'count') {
  const inspector = new Session()
  inspector.connect()
  inspector.on('Debugger.scriptParsed', ({ params: { url } }) => { if (url.startsWith('file:')) files++ })
  inspector.post('Debugger.enable')
}

const { SERVERS } = await import('./stack-servers.js')
const { app, token }: Server = await SERVERS[name]!(JSON.parse(options) as ServerOptions)
await app.listen({ host: '127.0.0.1', port: 0 })
const { user, system } = process.cpuUsage()
const started: Started = {
  port: (app.server.address() as AddressInfo).port,
  token,
  cpuMs: (user + system) / 1_000,
  rssMb: process.memoryUsage.rss() / 2 ** 20,
  files: countsFiles === 'count' ? files : null
}
process.send!(started)
process.on('message', task => {
  if (task === 'collect') globalThis.gc?.()
  const { user, system } = process.cpuUsage()
  const usage: Usage = { cpuUs: user + system, heapBytes: process.memoryUsage().heapUsed }
  process.send!(usage)
})
process.on('disconnect', () => { void app.close().then(() => process.exit()) })
