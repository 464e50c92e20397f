import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { loadPolicy, rbac } from '@marty/rbac'
import Fastify from 'fastify'
import type { Samples } from './harness.js'
import { ENVIRONMENT, policyData } from './rbac-data.js'
import { casbinEnforcer } from './rbac-peers.js'

const MAX_IDLE_MS = 500
const ENFORCERS = 24

/**
 * Durations of reloads in milliseconds: of an idle service, and of one whose event loop runs permanently, which shows
 * the longest time that a reload blocks it. For comparison, the longest such time without a reload.
 */
export async function reloads (rules: number, rounds: number): Promise<Samples> {
  const { text } = policyData(rules)
  const { reload, close } = await reloader(text)
  let changes = 0
  const timed = async (): Promise<number> => {
    const changed = `${text}# ${changes++}\n`
    const started = performance.now()
    await reload(changed)
    return performance.now() - started
  }
  // The first reloads start the thread and run cold code.
  for (let warm = 0; warm < 2; warm++) await timed()
  const ms: number[] = []
  const turningMs: number[] = []
  const pauseMs: number[] = []
  const idleMs: number[] = []
  for (let round = 0; round < rounds; round++) {
    ms.push(await timed())
    pauseMs.push(await longestPause(async () => { turningMs.push(await timed()) }))
    idleMs.push(await longestPause(async () => { await sleep(Math.min(turningMs.at(-1)!, MAX_IDLE_MS)) }))
  }
  await close()
  return { ms, turningMs, pauseMs, idleMs }
}

interface Reloader {
  reload (text: string): Promise<void>
  close (): Promise<void>
}

/** A service that reloads its policy file on demand. */
async function reloader (first: string): Promise<Reloader> {
  const folder = await mkdtemp(join(tmpdir(), 'marty-bench-policy-'))
  const file = join(folder, 'policy.yaml')
  await writeFile(file, first)
  const app = Fastify()
  await app.register(rbac, { policyFile: file, environment: ENVIRONMENT, reload: false })
  await app.ready()
  return {
    async reload (text) {
      await writeFile(file, text)
      const before = app.rbac.status.generation
      const { generation, problems } = await app.rbac.reload()
      if (generation !== before + 1) throw new Error(`the policy was not reloaded: ${JSON.stringify(problems)}`)
    },
    async close () {
      await app.close()
      await rm(folder, { recursive: true, force: true })
    }
  }
}

/** The longest time between two turns of the event loop during `work`, in milliseconds. */
async function longestPause (work: () => Promise<void>): Promise<number> {
  let longest = 0
  let last = performance.now()
  const tick = (): void => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
    ticking = setImmediate(tick)
  }
  let ticking = setImmediate(tick)
  await work()
  clearImmediate(ticking)
  return Math.max(longest, performance.now() - last)
}

/** Bytes of the compiled tables, and of Casbin with the same rules. Names are not counted: both share them. */
export async function memory (rules: number): Promise<{ readonly index: number, readonly casbin: number }> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const { text, roles } = policyData(rules)
  const { sizeBytes } = await loadPolicy(text, 'policy.yaml')
  const heap = async (): Promise<number> => {
    for (let pass = 0; pass < 4; pass++) {
      await turn()
      collect()
    }
    return process.memoryUsage().heapUsed
  }
  // The first one also loads code. Create many, because the heap also changes for other reasons.
  const enforcers = [await casbinEnforcer(roles)]
  const before = await heap()
  while (enforcers.length <= ENFORCERS) enforcers.push(await casbinEnforcer(roles))
  const casbin = (await heap() - before) / ENFORCERS
  if (enforcers.some(enforcer => enforcer.getModel().model.get('p')!.get('p')!.policy.length < rules / 2)) {
    throw new Error('Casbin does not hold the rules')
  }
  return { index: sizeBytes, casbin }
}
