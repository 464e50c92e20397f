import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { tailAuditLog, verifyAuditLog } from '@marty/audit'
import { logFile } from './service.js'

const writer = fileURLToPath(new URL('./kill-writer.js', import.meta.url))

interface Acknowledged {
  readonly log: number
  readonly action: string
  readonly time: number
}

/** Kills a process that writes so many logs at a random moment; what it had acknowledged. */
async function killed (folder: string, logs: number, run: number, mode: 'sync' | 'async'): Promise<Acknowledged[]> {
  const child = spawn(process.execPath, [writer, folder, String(logs), String(run), mode], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const exited = once(child, 'exit')
  const seen: Acknowledged[] = []
  // In async mode after the first batch has been written, or there would be nothing to go on from.
  const enough = Math.floor(Math.random() * 20 * logs)
  for await (const line of createInterface(child.stdout)) {
    const [log, action = '', time] = line.split(' ')
    // The last line may be torn like any other.
    if (Number.isNaN(Number(time)) || time === '') continue
    seen.push({ log: Number(log), action, time: Number(time) })
    if (seen.length === (mode === 'sync' ? 2 : 60) * logs + enough) {
      setTimeout(() => child.kill('SIGKILL'), Math.random() * 8)
    }
  }
  await exited
  if (child.signalCode !== 'SIGKILL') throw new Error(`the writer ended by itself: ${child.exitCode}`)
  return seen
}

/**
 * Each death is a kill point for every log, each in a state of its own. What was acknowledged and is not there, by
 * death and log.
 */
async function torture (
  t: Test,
  mode: 'sync' | 'async',
  deaths: number,
  logs: number
): Promise<Array<{ readonly lost: readonly Acknowledged[]; readonly last: number }>> {
  const folder = dirname(logFile(t))
  const runs: Acknowledged[][] = []
  for (let run = 0; run < deaths; run++) runs.push(await killed(folder, logs, run, mode))
  const child = spawn(process.execPath, [writer, folder, String(logs), 'last', 'sync', '0'], {
    stdio: ['ignore', 'ignore', 'inherit']
  })
  await once(child, 'exit')
  const points: Array<{ lost: Acknowledged[]; last: number }> = []
  for (let log = 0; log < logs; log++) {
    const file = join(folder, String(log), 'audit.log')
    t.match(
      await verifyAuditLog(file),
      { ok: true, gaps: { length: deaths }, warnings: [] },
      'the whole log verifies, with a marker for each death'
    )
    const written = new Set<unknown>()
    for await (const line of tailAuditLog(file)) written.add(line['activity_name'])
    for (const run of runs) {
      const ours = run.filter(seen => seen.log === log)
      points.push({ lost: ours.filter(({ action }) => !written.has(action)), last: ours.at(-1)?.time ?? 0 })
    }
  }
  return points
}

t.test('sync: kill -9 at 200 moments loses no acknowledged event', { timeout: 120_000 }, async t => {
  const points = await torture(t, 'sync', 20, 10)
  t.equal(points.length, 200)
  t.strictSame(
    points.flatMap(({ lost }) => lost),
    []
  )
})

t.test('async: kill -9 loses the last moments only', { timeout: 120_000 }, async t => {
  const points = await torture(t, 'async', 5, 4)
  const spans = points
    .map(({ lost, last }) => (lost.length === 0 ? 0 : last - lost[0]!.time))
    .sort((one, other) => one - other)
  t.comment(`lost, in ms: ${spans.join(' ')}`)
  // A batch is written 50 ms after its first event; a busy machine adds its own.
  t.ok(spans.every(span => span < 2_000))
})
