import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { closest } from '@marty/core'
import { authBench } from './auth.bench.js'
import { guardBench } from './guard.bench.js'
import { rateLimitBench } from './rate-limit.bench.js'
import { machine, type Measured, type Plan, type Result } from './harness.js'
import { rbacBench } from './rbac.bench.js'
import { stackBench } from './stack.bench.js'

type Bench = (plan: Plan, progress: (done: number, of: number) => void) => Promise<Measured>

const BENCHES: Readonly<Record<string, { readonly run: Bench, readonly about: string }>> = {
  auth: { run: authBench, about: 'the cost of authentication and audit, and how they withstand a flood' },
  guard: { run: guardBench, about: 'the cost that the guard adds to a bare Fastify route' },
  rbac: { run: rbacBench, about: 'the cost of a policy decision and of a policy reload' },
  stack: { run: stackBench, about: 'the cost of the whole stack, compared with the usual plugins wired by hand' },
  'rate-limit': {
    run: rateLimitBench,
    about: 'the cost of exact limits in Redis, compared with no limits and with @fastify/rate-limit'
  }
}
/** The packages whose versions a result contains. */
const MEASURED = [
  'fastify', '@fastify/jwt', '@fastify/rate-limit', '@fastify/helmet', '@fastify/cors', 'casbin', '@casl/ability',
  'accesscontrol'
]
/** The flood lasts longer than the minute for which a verified API key is cached. */
const FULL: Plan = { rounds: 40, sliceMs: 200, floodSeconds: 70, limit: 100 }
const QUICK: Plan = { rounds: 12, sliceMs: 100, floodSeconds: 10, limit: 100 }

const HELP = `Measures the shipped code side by side with its peers.

  npm run bench -- NAME [--quick] [--limit N] [--json FILE] [--record]

${Object.entries(BENCHES).map(([name, { about }]) => `  ${name.padEnd(12)} ${about}`).join('\n')}

  --quick      a shorter run that ends within 45 s
  --limit N    the limit that rate-limit measures with (default 100)
  --json FILE  writes machine, versions, metrics and samples
  --record     keeps the result, for docs/reference/performance.md
  --help       prints this help

Ratios compare cases that ran side by side. Absolute figures hold for this machine only.
Exit codes: 0 measured, 1 failed, 2 wrong arguments.`

const out = (text: string): void => { process.stdout.write(text + '\n') }

try {
  const {
    values,
    positionals: [name]
  } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean' },
      json: { type: 'string' },
      record: { type: 'boolean' },
      limit: { type: 'string' },
      help: { type: 'boolean' }
    }
  })
  if (values.help === true) out(HELP)
  else {
    await run(
      name,
      { ...(values.quick === true ? QUICK : FULL), ...limitOf(values.limit) },
      values.json,
      values.record === true
    )
  }
} catch (error) {
  const usage =
    error instanceof RangeError || (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') === true
  process.stderr.write((usage ? `${(error as Error).message}\n\n${HELP}` : String((error as Error).stack)) + '\n')
  process.exitCode = usage ? 2 : 1
}

function limitOf (text: string | undefined): Partial<Plan> {
  if (text === undefined) return {}
  const limit = Number(text)
  if (!Number.isInteger(limit) || limit < 1 || limit > 1_000_000) {
    throw new RangeError(`--limit must be an integer from 1 to 1000000, not "${text}"`)
  }
  return { limit }
}

async function run (name: string | undefined, plan: Plan, file: string | undefined, isKept: boolean): Promise<void> {
  const bench = BENCHES[name ?? '']
  if (name === undefined || bench === undefined) {
    const near = name === undefined ? null : closest(name, Object.keys(BENCHES))
    throw new RangeError(
      name === undefined
        ? 'Name the bench to run.'
        : `There is no bench "${name}"` + (near === null ? '.' : `; did you mean "${near}"?`)
    )
  }
  const progress = (done: number, of: number): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r${name}: round ${done} of ${of}${done === of ? '\n' : ''}`)
  }
  const { metrics, goals = {}, notes = [], samples } = await bench.run(plan, progress)
  const result: Result = { name, machine: machine(), versions: versions(), metrics, samples }
  out(`${name} on ${result.machine.cpu}, ${result.machine.cores} cores, Node ${process.versions.node}`)
  for (const [key, value] of Object.entries(metrics)) {
    out(
      `  ${key.padEnd(26)} ${value.toPrecision(3).padEnd(10)} ${goals[key] === undefined ? '' : `goal ${goals[key]}`}`.trimEnd()
    )
  }
  for (const note of notes) out(`  ${note}`)
  if (isKept) {
    const { samples: _, ...kept } = result
    writeFileSync(
      new URL(`../results/${name}.json`, import.meta.url),
      JSON.stringify({ ...kept, about: bench.about, goals, notes }, null, 2) + '\n'
    )
  }
  if (file !== undefined) writeFileSync(file, JSON.stringify(result, null, 2) + '\n')
}

function versions (): Record<string, string> {
  // Not every package exports its package.json.
  const versionOf = (name: string): string => {
    const [folder] = import.meta.resolve(name).split(`/node_modules/${name}/`)
    return (
      JSON.parse(readFileSync(new URL(`${folder}/node_modules/${name}/package.json`), 'utf8')) as { version: string }
    ).version
  }
  return { node: process.versions.node, ...Object.fromEntries(MEASURED.map(name => [name, versionOf(name)])) }
}
