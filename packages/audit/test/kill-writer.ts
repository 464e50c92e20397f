import { writeSync } from 'node:fs'
import Fastify from 'fastify'
import { audit } from '@marty/audit'
import { event, PRODUCT } from './service.js'

// Records events for ever, and prints each one's action when it has been acknowledged.
const [file = '', run = '', stop] = process.argv.slice(2)
const app = Fastify()
await app.register(audit, { sink: { file, mode: 'sync' }, product: PRODUCT })
await app.ready()
if (stop === undefined) {
  for (let i = 0; ; i += 4) {
    await Promise.all([0, 1, 2, 3].map(async offset => {
      const action = `act.${run}.${i + offset}`
      await app.audit.record(event({ action }))
      writeSync(1, `${action}\n`)
    }))
  }
}
await app.close()
