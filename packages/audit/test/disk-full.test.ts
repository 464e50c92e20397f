import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { text } from 'node:stream/consumers'
import { tailAuditLog, verifyAuditLog, type AuditLine } from '@marty/audit'
import { logFile } from './service.js'

const writer = fileURLToPath(new URL('./full-writer.js', import.meta.url))

interface Told {
  acknowledged: number
  refused: number
  during: { status: string; details: { lostEvents: number; lastError: string; queued: number } }
  after: { status: string; details: { lostEvents: number } }
  logged: number
}

for (const mode of ['sync', 'async'] as const) {
  t.test(`${mode}: when no more can be written, it is counted and told, and recovers in one chain`, async t => {
    const file = logFile(t)
    // A limit of 8 or 16 KiB for any file, as the shell counts blocks: the write that crosses it is cut in the middle,
    // as on a full disk.
    const child = spawn('sh', ['-c', `ulimit -S -f 16; exec "${process.execPath}" "${writer}" "${file}" ${mode}`], {
      stdio: ['ignore', 'pipe', 'inherit']
    })
    const [output] = await Promise.all([text(child.stdout), once(child, 'exit')])
    t.equal(child.exitCode, 0)
    const told = JSON.parse(output) as Told
    t.match(told.during, { status: 'unhealthy', details: { lastError: 'EFBIG' } })
    t.ok(told.logged >= 1, 'told in the log')
    t.equal(told.after.status, 'healthy')
    const result = await verifyAuditLog(file)
    t.match(result, { ok: true })
    const lines: AuditLine[] = []
    for await (const line of tailAuditLog(file)) lines.push(line)
    const actions = lines.map(line => String(line['activity_name']))
    if (mode === 'sync') {
      t.ok(told.refused > 0 && told.acknowledged > 0)
      t.equal(told.during.details.lostEvents, told.refused)
      t.ok(
        lines.some(line => Number(line['lost_events']) === told.after.details.lostEvents),
        'the marker tells all of them'
      )
      t.ok(actions.filter(action => action.startsWith('act.')).length >= told.acknowledged)
    } else {
      t.equal(told.after.details.lostEvents, 0, 'they waited')
      t.strictSame(
        actions.filter(action => action.startsWith('act.')),
        Array.from({ length: told.acknowledged }, (_, index) => `act.${index}`),
        'each is written once'
      )
    }
  })
}
