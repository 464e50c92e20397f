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
 * Milliseconds that reloads take: of a service at rest, and of one whose event loop turns without end, so as to tell the
 * longest time it stands still. And that time when there is nothing to do, for about as long.
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
  // The first reloads start the thread and run code that is cold.
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

/** A service that is told to look at its policy file. */
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

/** The longest time in milliseconds between two turns of the event loop while this is done. */
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

/** Bytes of the compiled tables, and of Casbin with the same rules. The names are shared with the data, and not counted. */
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
  // The first one brings code with it; many, because the heap changes by itself, too.
  const enforcers = [await casbinEnforcer(roles)]
  const before = await heap()
  while (enforcers.length <= ENFORCERS) enforcers.push(await casbinEnforcer(roles))
  const casbin = (await heap() - before) / ENFORCERS
  if (enforcers.some(enforcer => enforcer.getModel().model.get('p')!.get('p')!.policy.length < rules / 2)) {
    throw new Error('Casbin does not hold the rules')
  }
  return { index: sizeBytes, casbin }
}
