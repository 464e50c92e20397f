import { writeSync } from 'node:fs'
import Fastify from 'fastify'
import { audit } from '@marty/audit'
import { event, PRODUCT } from './service.js'

// Records events for ever, and prints each one's action when it has been acknowledged. In async mode it also prints the
// time, and pauses, so that time passes between the events.
const [file = '', run = '', mode = 'sync', stop] = process.argv.slice(2)
const app = Fastify()
await app.register(audit, { sink: { file, mode: mode as 'sync' | 'async', rotate: { maxBytes: 20_000 } }, product: PRODUCT })
await app.ready()
if (stop === undefined) {
  for (let i = 0; ; i += 4) {
    await Promise.all([0, 1, 2, 3].map(async offset => {
      const action = `act.${run}.${i + offset}`
      await app.audit.record(event({ action }))
      writeSync(1, `${action} ${Date.now()}\n`)
    }))
    if (mode === 'async') await new Promise(resolve => setTimeout(resolve, 1))
  }
}
await app.close()
