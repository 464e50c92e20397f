import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { tailAuditLog, verifyAuditLog, type AuditLine } from '@marty/audit'
import { logFile } from './service.js'

const writer = fileURLToPath(new URL('./kill-writer.js', import.meta.url))
const POINTS = 200

interface Acknowledged { readonly action: string, readonly time: number }

/** Starts the writer and kills it after so many acknowledged events and a random moment more; what it had acknowledged. */
async function killed (file: string, run: number, mode: 'sync' | 'async'): Promise<Acknowledged[]> {
  const child = spawn(process.execPath, [writer, file, String(run), mode], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const seen: Acknowledged[] = []
  const after = Math.floor(Math.random() * 60)
  for await (const line of createInterface(child.stdout)) {
    const [action = '', time = ''] = line.split(' ')
    seen.push({ action, time: Number(time) })
    if (seen.length === 4 + after) setTimeout(() => child.kill('SIGKILL'), Math.random() * 8)
  }
  await exited
  if (child.signalCode !== 'SIGKILL') throw new Error(`the writer ended by itself: ${child.exitCode}`)
  return seen
}

async function ended (file: string): Promise<void> {
  const child = spawn(process.execPath, [writer, file, 'last', 'sync', 'stop'], { stdio: ['ignore', 'ignore', 'inherit'] })
  await once(child, 'exit')
}

async function linesOf (file: string): Promise<AuditLine[]> {
  const lines: AuditLine[] = []
  for await (const line of tailAuditLog(file)) lines.push(line)
  return lines
}

/** Runs two at a time, each on its own log: most of the time of a run is the start of a process. */
async function torture (t: { teardown (end: () => void): unknown, ok: (value: unknown, what?: string) => unknown, match: (found: unknown, wanted: unknown, what?: string) => unknown }, mode: 'sync' | 'async', points: number): Promise<Array<{ lost: Acknowledged[], last: number }>> {
  return await Promise.all([0, 1].map(async () => {
    const file = logFile(t as Parameters<typeof logFile>[0])
    const runs: Acknowledged[][] = []
    for (let run = 0; run < points / 2; run++) runs.push(await killed(file, run, mode))
    await ended(file)
    const verified = await verifyAuditLog(file)
    t.match(verified, { ok: true, gaps: { length: points / 2 } }, 'the whole log verifies, with a marker for each death')
    const written = new Set((await linesOf(file)).map(line => line['activity_name']))
    return runs.map(seen => ({ lost: seen.filter(({ action }) => !written.has(action)), last: seen.at(-1)!.time }))
  })).then(both => both.flat())
}

t.test(`sync: ${POINTS} times kill -9 lose no acknowledged event`, { timeout: 240_000 }, async t => {
  const runs = await torture(t, 'sync', POINTS)
  t.strictSame(runs.flatMap(({ lost }) => lost), [])
})

t.test('async: kill -9 loses the last moments only', { timeout: 240_000 }, async t => {
  const runs = await torture(t, 'async', 20)
  const spans = runs.map(({ lost, last }) => lost.length === 0 ? 0 : last - lost[0]!.time)
  t.comment(`lost, in ms: ${spans.sort((a, b) => a - b).join(' ')}`)
  // A batch is written 50 ms after its first event; the rest is what a busy machine adds.
  t.ok(spans[Math.floor(spans.length / 2)]! <= 100, 'half of them at most 100 ms')
  t.ok(spans.every(span => span < 1_000))
})
