import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { loadPolicy, type Policy } from '@marty/rbac'
import type { Samples } from './harness.js'
import { policyData } from './rbac-data.js'
import { casbinEnforcer } from './rbac-peers.js'

/** Milliseconds that reloads take, the longest the event loop stands still meanwhile, and in as long a time without one. */
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
    idleMs.push(await longestPause(async () => { await sleep(tookMs) }))
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

/** Bytes of the compiled tables, and of Casbin with the same rules; the names are shared with the data, and not counted. */
export async function memory (rules: number): Promise<{ readonly index: number, readonly casbin: number }> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const { text, roles } = policyData(rules)
  const { sizeBytes } = await loadPolicy(text, 'policy.yaml')
  await casbinEnforcer(roles)
  collect()
  const before = process.memoryUsage().heapUsed
  const enforcer = await casbinEnforcer(roles)
  collect()
  const casbin = process.memoryUsage().heapUsed - before
  if (!enforcer.enforceSync(roles[0]!.name, roles[0]!.allow[0]!.resource, roles[0]!.allow[0]!.action)) throw new Error('Casbin holds other rules')
  return { index: sizeBytes, casbin }
}
