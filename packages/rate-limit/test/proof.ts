import type { Test } from 'tap'
import type { StoreFailureMode } from '@marty/rate-limit'
import type { RedisClient } from '@marty/redis'
import type { Adversaries, Attack, Report } from './adversaries.js'
import { worstOfRules, type Decision, type Worst } from './window-checker.js'

/** How long each proof goes on looking, in seconds; by default a few. */
export const SECONDS: number = Number(process.env['MARTY_LIMITER_PROOF_SECONDS'] ?? 0)

/** Outages are both shorter and longer than this. */
const WINDOW_MS = 500

/** What comes at a limiter whose Redis fails. */
const OUTAGE: readonly Attack[] = [
  { rules: [{ rule: 'eight', limit: 8, windowMs: WINDOW_MS }], subjects: 1, costs: [1], burst: 4, clients: 2 },
  { rules: [{ rule: 'hundred', limit: 100, windowMs: 200 }, { rule: 'list', limit: 200, windowMs: WINDOW_MS }], subjects: 2, costs: [1, 3], burst: 8, clients: 2 },
  { rules: [{ rule: 'cold', limit: 8, windowMs: WINDOW_MS }], subjects: 100, costs: [1], burst: 4, clients: 2 }
]

export interface Fault {
  readonly name: string
  readonly mode: StoreFailureMode
  /** The most that any window may hold, in limits: see the guide on rate limiting. */
  readonly bound: number
  strike (): Promise<unknown>
  mend (): Promise<unknown>
}

/** Attacks before, during and after a fault; everybody is answered while it lasts. */
export async function prove (t: Test, adversaries: Adversaries, { name, mode, bound, strike, mend }: Fault): Promise<Report> {
  adversaries.attack(OUTAGE, mode)
  await adversaries.healthyFor(WINDOW_MS)
  await strike()
  await adversaries.answered()
  await new Promise(resolve => setTimeout(resolve, Math.random() * WINDOW_MS * 1.5))
  await adversaries.answered()
  await mend()
  await adversaries.healthyFor(WINDOW_MS * 1.5)
  const report = await adversaries.stop()
  judge(t, `${name}, ${mode}`, report, bound)
  return report
}

/** Exact before and after what Redis did not decide, or could not, and bounded around it. */
export function judge (t: Test, name: string, { decisions, ...report }: Report, bound: number): void {
  const { outage } = report
  const healthy = outage === null ? [decisions] : [decisions.filter(({ after }) => after < outage[0]), decisions.filter(({ before }) => before > outage[1])]
  const worst = worstOf(decisions)
  const exact = healthy.map(worstOf)
  t.comment(`${name}: worst ${worst.ratio.toFixed(3)} (${worst.rule}), apart from the outage ${exact.map(({ ratio }) => ratio.toFixed(3)).join(', ')}; ` +
    `${report.asked} asked, ${report.degraded} decided and ${report.unavailable} refused without Redis, slowest ${Math.round(report.slowestMs)} ms`)
  for (const part of exact) t.ok(part.ratio > 0 && part.ratio <= 1, `${name}: exact: ${JSON.stringify(part)}`)
  t.ok(worst.ratio <= bound, `${name}: at most ${bound}: ${JSON.stringify(worst)}`)
}

/** The fullest window of any rule. */
export function worstOf (decisions: Iterable<Decision>): Worst & { readonly rule: string } {
  const [worst] = [...worstOfRules(decisions)].sort(([, a], [, b]) => b.ratio - a.ratio)
  if (worst === undefined) throw new Error('nothing was admitted')
  return { rule: worst[0], ...worst[1] }
}

/** How many scripts a server has carried out or refused. */
export async function scriptsRun (client: Pick<RedisClient, 'info'>): Promise<number> {
  const stats = String(await client.info('commandstats'))
  return [...stats.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].reduce((sum, [, calls]) => sum + Number(calls), 0)
}
