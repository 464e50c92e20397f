import { copyFile, mkdir, mkdtemp, readdir, rename, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openLibrary, type Library } from '@marty/camera-service/library/library.js'
import { StorageFull } from '@marty/camera-service/library/errors.js'
import type { RuntimePath } from '@marty/camera-service/mediamtx/client.js'
import { Recorder, type RecordingEvent } from '@marty/camera-service/media/recorder.js'
import { RecordingPlan } from '@marty/camera-service/mediamtx/recording-plan.js'
import { useFfmpeg } from '@marty/camera-service/media/ffmpeg.js'
import { useStorage } from '@marty/camera-service/library/storage.js'
import { startChild } from '@marty/camera-service/process/child.js'
import { eventually } from '@marty/testing'
import Fastify from 'fastify'
import t from 'tap'

// Only for a machine that hangs: no test depends on speed. The media server is played here: it writes what a test
// wants.
t.setTimeout(300_000)

const log = Fastify({ logger: false }).log
const flowing = (inboundBytes: number): ReadonlyMap<string, RuntimePath> =>
  new Map([['camera0', { available: true, inboundBytes } as unknown as RuntimePath]])

interface Stage {
  readonly recorder: Recorder
  readonly plan: RecordingPlan
  readonly events: RecordingEvent[]
  readonly folder: string
  readonly library: Library
  full: boolean
  segment (name: string): Promise<void>
}

async function stage (): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), 'recorder-'))
  const footage = join(await mkdtemp(join(tmpdir(), 'footage-')), 'footage.mp4')
  const child = await startChild({
    command: 'ffmpeg',
    args: [
      '-loglevel',
      'error',
      '-y',
      '-f',
      'lavfi',
      '-i',
      'color=size=64x64:rate=5:duration=1',
      '-c:v',
      'libx264',
      '-movflags',
      'frag_keyframe+empty_moov',
      footage
    ]
  })
  await child.ended
  const library = openLibrary(':memory:')
  const space = useStorage(folder, 100, 100)
  const made = { events: [] as RecordingEvent[], folder, library, full: false }
  const plan = new RecordingPlan()
  const recorder = new Recorder({
    library,
    storage: { ...space, assertSpace: async () => { if (made.full) throw new StorageFull() } },
    tools: useFfmpeg('ffmpeg', 'ffprobe'),
    folder,
    log,
    plan,
    apply: async () => {}
  })
  recorder.on('change', event => { made.events.push(event) })
  t.teardown(async () => {
    await recorder.close()
    library.close()
  })
  const segment = async (name: string): Promise<void> => {
    const to = join(plan.specOf('camera0')!.folder, 'cs', 'camera0')
    await mkdir(to, { recursive: true })
    await copyFile(footage, join(to, name))
  }
  return Object.assign(made, { recorder, plan, segment })
}

const hasBegun = (now: Stage): Promise<void> =>
  eventually(() => { if (now.plan.specOf('camera0') === null) throw new Error('not begun') })

async function begun (now: Stage, seconds: number | null = null): Promise<void> {
  const starting = now.recorder.start('camera0', seconds, 'alice')
  await hasBegun(now)
  await now.segment('1767225600-000000.mp4')
  await starting
}

const statuses = ({ events }: Stage): string[] => events.map(({ status }) => status)

t.test('a recording waits while no bytes arrive and continues when they do, with one event for each change', async t => {
  const now = await stage()
  t.equal(now.recorder.status('camera0'), 'OFF')
  now.recorder.observe(null)
  await begun(now)
  t.equal(now.recorder.status('camera0'), 'RECORDING')
  now.recorder.observe(flowing(1))
  t.same(statuses(now), ['STARTED'])
  await eventually(() => {
    now.recorder.observe(flowing(1))
    if (now.recorder.status('camera0') !== 'WAITING_FOR_CAMERA') throw new Error('bytes that do not come are not missed')
  })
  now.recorder.observe(new Map())
  now.recorder.observe(null)
  t.same(statuses(now), ['STARTED', 'WAITING'])
  now.recorder.observe(flowing(2))
  t.same(statuses(now), ['STARTED', 'WAITING', 'RESUMED'])
  const { files } = await now.recorder.stop('camera0')
  t.equal(files.length, 1)
  now.recorder.observe(null)
  t.same(statuses(now), ['STARTED', 'WAITING', 'RESUMED', 'STOPPED'])
})

t.test('a full disk still ends a recording that waits for its camera', async t => {
  const now = await stage()
  await begun(now)
  now.recorder.observe(null)
  now.full = true
  await eventually(() => { if (now.recorder.status('camera0') !== 'OFF') throw new Error('not ended') })
  t.same(statuses(now), ['STARTED', 'WAITING', 'STOPPED'])
})

t.test('many interruptions create many files in order, also when finishing is interrupted and repeated', async t => {
  const now = await stage()
  await begun(now)
  const { name } = now.recorder.current('camera0')!
  for (let i = 1; i < 12; i++) await now.segment(`17672256${String(i).padStart(2, '0')}-000000.mp4`)
  const expected = [`${name}.mp4`, ...Array.from({ length: 11 }, (_, index) => `${name}_${index + 2}.mp4`)]
  // An earlier attempt has already moved eleven files. Their names sort differently as text and as numbers.
  const from = join(now.plan.specOf('camera0')!.folder, 'cs', 'camera0')
  for (let i = 0; i < 11; i++) await rename(join(from, `17672256${String(i).padStart(2, '0')}-000000.mp4`), join(now.folder, expected[i]!))
  await writeFile(join(now.folder, 'camera0_another.mp4'), '')
  const { files } = await now.recorder.stop('camera0')
  t.same(files.map(file => file.name), expected)
})

for (const [when, untilThen] of [
  ['before it has begun', async () => {}],
  ['while it waits for the first footage', hasBegun]
] as const) {
  t.test(`a recording that is stopped ${when} does not stay open in the library`, async t => {
    const now = await stage()
    const starting = now.recorder.start('camera0', 60, 'alice')
    starting.catch(() => { /* expected below */ })
    await untilThen(now)

    const { files } = await now.recorder.stop('camera0')

    t.same(files, [])
    await t.rejects(starting, { message: 'The recording was stopped before it started' })
    t.same(now.library.openRecordings(), [])
    t.equal(now.plan.specOf('camera0'), null)
    t.same(await readdir(join(now.folder, '.open')), [], 'its folder is removed')
    t.same(statuses(now), ['ERROR'])
    await begun(now)
    t.equal(now.recorder.status('camera0'), 'RECORDING', 'the camera can be recorded again')
  })
}

t.test('when a recording ends, its event is emitted after its state has changed', async t => {
  const now = await stage()
  const seen: string[] = []
  now.recorder.on('change', ({ status }) => { seen.push(`${status} ${now.recorder.status('camera0')}`) })
  await begun(now)
  await now.recorder.stop('camera0')
  t.same(seen, ['STARTED RECORDING', 'STOPPED OFF'])
})
