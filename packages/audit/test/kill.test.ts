import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { verifyAuditFile } from '@marty/audit'
import { linesOf, logFile } from './service.js'

const writer = fileURLToPath(new URL('./kill-writer.js', import.meta.url))

t.test('kill -9 in sync mode loses no acknowledged event, again and again', async t => {
  const file = logFile(t)
  const acknowledged: string[] = []
  for (let run = 0; run < 5; run++) {
    const child = spawn(process.execPath, [writer, file, String(run)], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => { child.kill('SIGKILL') })
    let seen = 0
    for await (const line of createInterface(child.stdout)) {
      acknowledged.push(line)
      if (++seen === 20 + run * 7) child.kill('SIGKILL')
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    t.equal(child.signalCode, 'SIGKILL')
    t.ok(seen >= 20)
  }
  const child = spawn(process.execPath, [writer, file, 'last', 'stop'], { stdio: ['ignore', 'ignore', 'inherit'] })
  await once(child, 'exit')
  t.equal(child.exitCode, 0)
  t.match(await verifyAuditFile(file), { ok: true })
  const actions = new Set(linesOf(file).map(line => line.activity_name))
  t.strictSame(acknowledged.filter(action => !actions.has(action)), [])
})
