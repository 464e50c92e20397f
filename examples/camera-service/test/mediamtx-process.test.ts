import { EventEmitter } from 'node:events'
import { mkdtemp, readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MediaMtxProcess } from '@marty/camera-service/mediamtx/process.js'
import type { ReconcilerEvents } from '@marty/camera-service/mediamtx/reconciler.js'
import { replaceWhenUnresponsive } from '@marty/camera-service/mediamtx/replace-unresponsive.js'
import { eventually } from '@marty/testing'
import Fastify from 'fastify'
import t from 'tap'
import { processesMentioning } from './running-service.js'

// Faults that the real program does not produce on demand. `sleep` takes its place: the supervisor only starts and ends
// it. What the real one does is in failures.test.ts.
t.setTimeout(120_000)

const log = Fastify({ logger: false }).log
/** The argument of `sleep`, by which its process is found. */
const SECONDS = '86397.25'

interface Supervised { readonly process: MediaMtxProcess, readonly pidFile: string, readonly starts: () => number }

async function supervise (prepare = async (): Promise<void> => {}, pidFolder = ''): Promise<Supervised> {
  const pidFile = join(await mkdtemp(join(tmpdir(), 'mediamtx-process-')), pidFolder, 'mediamtx.pid')
  let starts = 0
  const binary = { path: '/bin/sleep', version: 'v1.0.0' }
  const process = new MediaMtxProcess({
    binary, configFile: SECONDS, prepare, pidFile, log, onStarted: () => { starts++ }
  })
  t.teardown(() => process.stop())
  return { process, pidFile, starts: () => starts }
}

t.test('a process that ends is started again, and stop() ends it and removes its process id', async t => {
  const { process: supervised, pidFile, starts } = await supervise()
  await supervised.start()
  const first = supervised.pid
  t.equal(await readFile(pidFile, 'utf8'), String(first))

  process.kill(first!, 'SIGKILL')
  await eventually(() => { if (starts() !== 2) throw new Error('not started again') })

  t.not(supervised.pid, first)
  t.equal(supervised.restarts, 1)
  await supervised.stop()
  t.same(await processesMentioning(SECONDS), [])
  t.same(await readdir(join(pidFile, '..')), [])
})

t.test('a process whose id cannot be stored is supervised as well', async t => {
  const { process: supervised, starts } = await supervise(undefined, 'missing folder')
  await supervised.start()
  const first = supervised.pid
  t.equal(starts(), 1)

  process.kill(first!, 'SIGKILL')
  await eventually(() => { if (starts() !== 2) throw new Error('not started again') })

  t.equal((await processesMentioning(SECONDS)).length, 1, 'one process, not two')
  await supervised.stop()
  t.same(await processesMentioning(SECONDS), [])
})

t.test('stop() during a start leaves no process behind', async t => {
  let prepared: () => void = () => {}
  const { process: supervised, starts } = await supervise(() => new Promise(resolve => { prepared = resolve }))
  const starting = supervised.start()
  const stopping = supervised.stop()
  prepared()
  await Promise.all([starting, stopping])
  t.equal(starts(), 0)
  t.equal(supervised.pid, null)
  t.same(await processesMentioning(SECONDS), [])
})

t.test('stop() right after the program was started ends it', async t => {
  const { process: supervised } = await supervise()
  const starting = supervised.start()
  await new Promise(resolve => setImmediate(resolve))
  await supervised.stop()
  await starting
  t.same(await processesMentioning(SECONDS), [])
})

t.test('a process that does not respond is replaced after 10 s of its own life', async t => {
  const reconciler = new EventEmitter<ReconcilerEvents>()
  const state = { now: 0, pid: null as number | null, replaced: 0 }
  const supervised = { get pid () { return state.pid }, replace () { state.replaced++ } }
  replaceWhenUnresponsive(supervised, reconciler, () => state.now)
  const observe = (now: number, responds: boolean): number => {
    state.now = now
    reconciler.emit('observed', responds ? new Map() : null, new Set())
    return state.replaced
  }

  t.equal(observe(60_000, false), 0, 'no process runs')
  state.pid = 1
  t.equal(observe(61_000, false), 0, 'it has just been started, however long the service took to get there')
  t.equal(observe(70_999, false), 0)
  t.equal(observe(71_000, false), 1)
  t.equal(observe(72_000, false), 1, 'it is ending')
  state.pid = 2
  t.equal(observe(80_000, false), 1, 'its successor gets the whole time')
  t.equal(observe(89_999, true), 1)
  t.equal(observe(99_998, false), 1, 'the time counts from the last response')
  t.equal(observe(99_999, false), 2)
})
