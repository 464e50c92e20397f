import { cpus, totalmem } from 'node:os'
import { median, shuffled } from './statistics.js'

/** One thing to measure. `run` does the work `iterations` times. */
export interface Case {
  readonly name: string
  run (iterations: number): void | Promise<void>
  /** Prepares the given number of iterations. Not part of the measured time. */
  prepare? (iterations: number): void | Promise<void>
}

export interface Plan {
  /** In each round, every case runs once, in random order. */
  readonly rounds: number
  /** How long one run of a case takes, in milliseconds; the number of iterations is chosen to match. */
  readonly sliceMs: number
  /** How long a flood of bad requests lasts, in benches that have one. */
  readonly floodSeconds: number
  /** The rate limit to measure, in benches of limits. */
  readonly limit: number
}

/** Nanoseconds per iteration of each case, one sample per round. Samples of one round can be compared directly. */
export type Samples = Readonly<Record<string, readonly number[]>>

/** The measurements of one bench. */
export interface Measured {
  readonly metrics: Readonly<Record<string, number>>
  /** The targets of some metrics, printed beside them. */
  readonly goals?: Readonly<Record<string, string>>
  /** How the values were measured, and what a reader should know about them. */
  readonly notes?: readonly string[]
  readonly samples: Samples
}

/** What a bench prints and writes to a file: the metrics (medians and ratios) and the samples behind them. */
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

/** Measures the cases in short slices and random order, so that noise of the machine affects all of them equally. */
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

/** The duration of `of` divided by that of `against` in the same round; the median over all rounds. */
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

/** Warms up, then finds the number of iterations that takes about as long as a slice. */
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
