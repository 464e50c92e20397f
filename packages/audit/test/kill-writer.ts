import { join } from 'node:path'
import Fastify from 'fastify'
import { audit } from '@marty/audit'
import { event, PRODUCT } from './service.js'

// Writes to several logs at once, for ever unless it is told how many, and prints each event's log, action and time when it has been acknowledged.
const [folder = '', logs = '1', run = '', mode = 'sync', events] = process.argv.slice(2)
const last = events === undefined ? Infinity : Number(events)

async function write (log: number): Promise<void> {
  const app = Fastify()
  await app.register(audit, { sink: { file: join(folder, String(log), 'audit.log'), mode: mode as 'sync' | 'async', rotate: { maxBytes: 20_000 } }, product: PRODUCT })
  await app.ready()
  for (let i = 0; i < last; i += 2) {
    await Promise.all([i, i + 1].map(async number => {
      const action = `act.${run}.${number}`
      await app.audit.record(event({ action }))
      // Node.js writes to a pipe synchronously, and waits when the reader is busy and the pipe is full.
      process.stdout.write(`${log} ${action} ${Date.now()}\n`)
    }))
    if (mode === 'async') await new Promise(resolve => setTimeout(resolve, 2))
  }
  await app.close()
}

await Promise.all(Array.from({ length: Number(logs) }, async (_, log) => { await write(log) }))
