import { execFileSync } from 'node:child_process'
import Fastify from 'fastify'
import { audit } from '@marty/audit'
import { until } from '@marty/testing'
import { event, PRODUCT } from './service.js'

// Writes until the limit of this process for the size of a file is reached, has it lifted, and goes on.
process.on('SIGXFSZ', () => {})
const [file = '', mode = 'sync'] = process.argv.slice(2)
let logged = 0
const app = Fastify({ logger: { level: 'error', stream: { write () { logged++ } } } })
await app.register(audit, { sink: { file, mode: mode as 'sync' | 'async', rotate: false }, product: PRODUCT })
let acknowledged = 0
let refused = 0
for (let i = 0; i < 60; i++) {
  await app.audit.record(event({ action: `act.${i}` })).then(() => { acknowledged++ }, () => { refused++ })
}
await until(() => app.audit.health().status === 'unhealthy', 'the limit')
const during = app.audit.health()
execFileSync('prlimit', ['--pid', String(process.pid), '--fsize=unlimited'])
for (let i = 60; i < 80; i++) {
  await app.audit.record(event({ action: `act.${i}` })).then(() => { acknowledged++ }, () => { refused++ })
}
await until(() => app.audit.health().status === 'healthy' && app.audit.health().details.queued === 0, 'the recovery')
const after = app.audit.health()
await app.close()
process.stdout.write(JSON.stringify({ acknowledged, refused, during, after, logged }))
