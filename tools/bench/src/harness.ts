import { cpus, totalmem } from 'node:os'
import { median, shuffled } from './statistics.js'

/** One thing to measure: does its work `iterations` times. */
export interface Case {
  readonly name: string
  run (iterations: number): void | Promise<void>
  /** Gets ready for as many iterations, outside the time that is taken. */
  prepare? (iterations: number): void | Promise<void>
}

export interface Plan {
  /** Every case runs once a round, in an order of the round's own. */
  readonly rounds: number
  /** Length of one slice in milliseconds; a case's number of iterations is fitted to it. */
  readonly sliceMs: number
  /** How long a bench that withstands a flood lets it last. */
  readonly floodSeconds: number
  /** The limit, where limits are measured. */
  readonly limit: number
}

/** Nanoseconds per iteration of every case, one sample a round; samples of one round were taken side by side. */
export type Samples = Readonly<Record<string, readonly number[]>>

/** What a bench found out. */
export interface Measured {
  readonly metrics: Readonly<Record<string, number>>
  /** What a metric should reach, printed beside it. */
  readonly goals?: Readonly<Record<string, string>>
  /** How it was measured, and what else is worth knowing. */
  readonly notes?: readonly string[]
  readonly samples: Samples
}

/** What a bench prints and writes. Metrics are medians and ratios; samples are what they were made of. */
export interface Result {
  readonly name: string
  readonly machine: {
    readonly cpu: string
    readonly cores: number
    readonly memoryGiB: number
    readonly platform: string
  }
  readonly versions: Readonly<Record<string, string>>
  readonly metrics: Readonly<Record<string, number>>
  readonly samples: Samples
}

/** Measures cases side by side, in slices of shuffled order, so that noise of the machine falls on all of them alike. */
export async function measure (
  cases: readonly Case[],
  { rounds, sliceMs }: Pick<Plan, 'rounds' | 'sliceMs'>,
  progress: (done: number, of: number) => void = () => {}
): Promise<Samples> {
  const samples: Record<string, number[]> = Object.fromEntries(cases.map(({ name }) => [name, []]))
  const iterations = new Map<Case, number>()
  for (const one of cases) iterations.set(one, await fit(one, sliceMs))
  for (let round = 0; round < rounds; round++) {
    for (const one of shuffled(cases)) samples[one.name]!.push(await time(one, iterations.get(one)!))
    progress(round + 1, rounds)
  }
  return samples
}

/** Median over the rounds of how many times as long `of` takes as `against`, compared within each round. */
export function ratio (samples: Samples, of: string, against: string): number {
  return median(samples[of]!.map((value, round) => value / samples[against]![round]!))
}

export function machine (): Result['machine'] {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform} ${process.arch}`
  }
}

/** Warms up, and finds the number of iterations that fills a slice. */
async function fit (one: Case, sliceMs: number): Promise<number> {
  let iterations = 16
  for (;;) {
    const nanoseconds = await time(one, iterations) * iterations
    if (nanoseconds >= sliceMs * 1e6) return iterations
    iterations = Math.ceil(iterations * Math.min(10, Math.max(1.5, sliceMs * 1.1e6 / Math.max(nanoseconds, 1))))
  }
}

async function time (one: Case, iterations: number): Promise<number> {
  await one.prepare?.(iterations)
  const started = process.hrtime.bigint()
  await one.run(iterations)
  return Number(process.hrtime.bigint() - started) / iterations
}
