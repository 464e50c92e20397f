import type { Test } from 'tap'
import type { StoreFailureMode } from '@marty/rate-limit'
import type { RedisClient } from '@marty/redis'
import { until } from '@marty/testing'
import { PROCESSES, type Adversaries, type Attack, type Report } from './adversaries.js'
import { worstOfRules, type Decision, type Worst } from './window-checker.js'

/** How long each proof goes on looking, in seconds; by default a few. */
export const SECONDS: number = Number(process.env['MARTY_LIMIT_INVARIANTS_SECONDS'] ?? 0)

/** Rounds of a long run take turns: windows shorter than any outage here, and windows that hold a whole outage. */
const WINDOWS_MS: readonly number[] = SECONDS === 0 ? [400] : [400, 4_000]

/**
 * What comes at a limiter whose Redis fails. Rules of another length have other names: a rule whose length changes is
 * another question.
 */
function attacksOn (windowMs: number): Attack[] {
  const rule = (name: string, limit: number, share = 1): Attack['rules'][number] => ({
    rule: `${name}-${windowMs * share}`,
    limit,
    windowMs: windowMs * share
  })
  return [
    { rules: [rule('eight', 8)], subjects: 1, costs: [1], burst: 4, clients: 2 },
    { rules: [rule('hundred', 100, 0.5), rule('list', 200)], subjects: 2, costs: [1, 3], burst: 8, clients: 2 },
    { rules: [rule('cold', 8)], subjects: 100, costs: [1], burst: 4, clients: 2 },
    { rules: [{ ...rule('leased', 300), lease: { share: 0.5 } }], subjects: 1, costs: [1, 3], burst: 12, clients: 2 },
    // Never refused, so that no outage goes by unnoticed.
    { rules: [rule('many', 8)], subjects: 1e6, costs: [1], burst: 1, clients: 1, pauseMs: 5 }
  ]
}

export interface Fault {
  readonly name: string
  readonly mode: StoreFailureMode
  /** The most that any window may hold, in limits: see the guide on rate limiting. */
  readonly bound: number
  /** Redis may have lost units in it. */
  readonly loses?: boolean
  /** Left to long runs. */
  readonly isRare?: boolean
  strike(): Promise<unknown>
  mend(): Promise<unknown>
}

/** Goes through the faults, once or for as long as was asked for. */
export async function proveAll (
  t: Test,
  adversaries: Adversaries,
  faults: readonly Fault[],
  each: (fault: Fault, work: () => Promise<Report>) => Promise<void>
): Promise<void> {
  const end = Date.now() + SECONDS * 1_000
  for (let round = 0; round === 0 || Date.now() < end; round++) {
    for (const fault of faults) {
      if (fault.isRare !== true || round > 0) {
        await each(fault, async () => await prove(t, adversaries, fault, WINDOWS_MS[round % WINDOWS_MS.length]!))
      }
    }
  }
}

/** Attacks before, during and after a fault; everybody is answered while it lasts. */
async function prove (
  t: Test,
  adversaries: Adversaries,
  { name, mode, bound, loses = false, strike, mend }: Fault,
  windowMs: number
): Promise<Report> {
  adversaries.attack(attacksOn(windowMs), mode)
  await adversaries.healthyFor(windowMs)
  await until(
    async () => (await adversaries.answered()).instances === PROCESSES,
    'the processes to have counted each other'
  )
  const from = nowUs()
  await strike()
  const struck = nowUs()
  await adversaries.answered()
  // In place of Redis, each process gives out its part: to be seen in windows that hold nothing else.
  await new Promise(resolve => setTimeout(resolve, mode === 'local' ? 2.5 * windowMs : Math.random() * 500))
  await adversaries.answered()
  const to = nowUs()
  await mend()
  await adversaries.healthyFor(windowMs * 1.5)
  await usedAgain(adversaries)
  const report = await adversaries.stop()
  judge(t, `${name}, ${mode}`, report, bound, loses ? [from, to] : null)
  if (mode === 'local') {
    const local = report.decisions.filter(
      ({ isLocal, before, after }) => isLocal === true && before > struck + windowMs * 1000 && after < to
    )
    t.ok(local.length > 0, 'processes decide in place of Redis')
    const worst = worstOf(local)
    t.comment(`${name}: worst within the outage ${worst.ratio.toFixed(3)}`)
    t.ok(worst.ratio <= 1, `the parts of all processes are one limit: ${JSON.stringify(worst)}`)
  }
  return report
}

/** Returns when Redis has admitted something more. */
export async function usedAgain (adversaries: Adversaries): Promise<void> {
  const { admitted } = await adversaries.answered()
  await until(async () => (await adversaries.answered()).admitted > admitted, 'Redis to be used again')
}

/**
 * Attacks again and again, until each of the rules was tried to more than a part of its limit, and as many units were
 * leased.
 */
export async function attackUntilTried (
  adversaries: Adversaries,
  attacks: readonly Attack[],
  share: number,
  names: readonly string[],
  attack: () => Promise<void>,
  leased = 0
): Promise<Report> {
  let whole: Report | null = null
  for (let round = 0; round < 40; round++) {
    adversaries.attack(attacks, 'closed')
    await attack()
    const report = await adversaries.stop()
    whole =
      whole === null
        ? report
        : {
            ...report,
            decisions: [...whole.decisions, ...report.decisions],
            sent: whole.sent + report.sent,
            leased: whole.leased + report.leased,
            outage: whole.outage ?? report.outage
          }
    const worst = worstOfRules(whole.decisions)
    if (whole.leased >= leased && names.every(name => (worst.get(name)?.ratio ?? 0) > share)) return whole
  }
  throw new Error('a rule was never tried')
}

/** Exact in all that Redis decided, but for what it lost in between, and bounded in everything. */
export function judge (
  t: Test,
  name: string,
  { decisions, ...report }: Report,
  bound: number,
  lost: readonly [from: number, to: number] | null = null
): void {
  const shared = decisions.filter(({ isLocal }) => isLocal !== true)
  const parts =
    lost === null
      ? [shared]
      : [shared.filter(({ after }) => after < lost[0]), shared.filter(({ before }) => before > lost[1])]
  const worst = worstOf(decisions)
  const exact = parts.map(worstOf)
  t.comment(
    `${name}: worst ${worst.ratio.toFixed(3)} (${worst.rule}), ` +
      `as Redis decided ${exact.map(({ ratio }) => ratio.toFixed(3)).join(', ')}; ` +
      `${report.asked} asked, ${report.degraded} decided and ${report.unavailable} refused without Redis, ` +
      `slowest ${Math.round(report.slowestMs)} ms`
  )
  for (const part of exact) t.ok(part.ratio <= 1, `${name}: exact: ${JSON.stringify(part)}`)
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

export function namesOf (attacks: readonly Attack[]): string[] {
  return attacks.flatMap(({ rules }) => rules.map(({ rule }) => rule))
}

/** As decisions are timed. */
function nowUs (): number {
  return (performance.timeOrigin + performance.now()) * 1000
}
