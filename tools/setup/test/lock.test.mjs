import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, utimesSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import t from 'tap'
import { withLock } from '../src/lock.mjs'
import { temporaryFolder } from './temporary-folder.mjs'

t.test('only one at a time has the lock, and each one gets it', async (t) => {
  const file = path.join(temporaryFolder(t), 'deep', 'lock')
  let inside = 0
  const most = []
  /** @type {(value?: unknown) => void} */
  let othersWait = () => {}
  const allWait = new Promise((resolve) => { othersWait = resolve })
  const waiting = []
  await Promise.all(Array.from({ length: 4 }, () => withLock(file, async () => {
    most.push(++inside)
    await allWait
    inside--
  }, (pid) => {
    if (waiting.push(pid) === 3) othersWait()
  })))
  t.same(most, [1, 1, 1, 1])
  t.same(new Set(waiting), new Set([String(process.pid)]), 'those that wait get the pid of the owner')
  t.notOk(existsSync(file))
})

t.test('the lock is released when the work fails', async (t) => {
  const file = path.join(temporaryFolder(t), 'lock')
  await t.rejects(withLock(file, async () => { throw new Error('broken') }), { message: 'broken' })
  t.notOk(existsSync(file))
})

t.test('a lock whose owner has ended is taken over by one of those that wait', async (t) => {
  const gone = spawn(process.execPath, ['-e', ''])
  await once(gone, 'exit')
  const file = path.join(temporaryFolder(t), 'lock')
  writeFileSync(file, String(gone.pid))
  let inside = 0
  const most = []
  await Promise.all(Array.from({ length: 4 }, () => withLock(file, async () => {
    most.push(++inside)
    await new Promise((resolve) => setImmediate(resolve))
    inside--
  })))
  t.same(most, [1, 1, 1, 1])
})

t.test('a lock that was not updated for a long time is taken over, although another process now has its pid', async (t) => {
  const file = path.join(temporaryFolder(t), 'lock')
  const longAgo = new Date(Date.now() - 60_000)
  writeFileSync(file, String(process.ppid))
  utimesSync(file, longAgo, longAgo)
  mkdirSync(`${file}.takeover`)
  utimesSync(`${file}.takeover`, longAgo, longAgo)
  t.equal(await withLock(file, async () => 'done'), 'done')
})
