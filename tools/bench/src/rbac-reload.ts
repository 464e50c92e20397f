import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { loadPolicy, type Policy } from '@marty/rbac'
import type { Samples } from './harness.js'
import { policyData } from './rbac-data.js'
import { casbinEnforcer } from './rbac-peers.js'

const MAX_IDLE_MS = 500
const ENFORCERS = 24

/** Milliseconds that reloads take, the longest the event loop stands still meanwhile, and when it idles about as long. */
export async function reloads (rules: number, rounds: number): Promise<Samples> {
  const { text } = policyData(rules)
  const reload = reloader()
  // The first loads run code that is cold; a service that reloads has loaded before.
  for (let warm = 0; warm < 2; warm++) await reload(text)
  const ms: number[] = []
  const pauseMs: number[] = []
  const idleMs: number[] = []
  for (let round = 0; round < rounds; round++) {
    const changed = `${text}# ${round}\n`
    let tookMs = 0
    pauseMs.push(await longestPause(async () => {
      const started = performance.now()
      await reload(changed)
      tookMs = performance.now() - started
    }))
    ms.push(tookMs)
    idleMs.push(await longestPause(async () => { await sleep(Math.min(tookMs, MAX_IDLE_MS)) }))
  }
  return { ms, pauseMs, idleMs }
}

/** One generation after another, as a service that watches its policy file makes them. */
function reloader (): (text: string) => Promise<void> {
  let current: Policy | undefined
  return async text => { current = await loadPolicy(text, 'policy.yaml', current === undefined ? {} : { previous: current }) }
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
  if (enforcers.some(enforcer => enforcer.getModel().model.get('p')!.get('p')!.policy.length < rules / 2)) throw new Error('Casbin does not hold the rules')
  return { index: sizeBytes, casbin }
}
