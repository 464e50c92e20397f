import { execFile } from 'node:child_process'
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { measure, median, ratio, shuffled } from '@marty/bench'
import t from 'tap'

// For a machine that is busy; nothing here is about speed.
t.setTimeout(600_000)

const run = (...args: string[]): Promise<{ stdout: string; stderr: string }> =>
  promisify(execFile)(process.execPath, [resolve(import.meta.dirname, '../dist/main.js'), ...args])

t.test('wrong arguments: what there is, did you mean, exit 2', async t => {
  await t.rejects(run(), { code: 2, stderr: /Name the bench to run/ })
  await t.rejects(run('gaurd'), { code: 2, stderr: /did you mean "guard"\?/ })
  await t.rejects(run('guard', '--fast'), { code: 2, stderr: /--fast/ })
  t.match((await run('--help')).stdout, /npm run bench/)
})

t.test('the median is the middle, a shuffle loses nothing', async t => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 2, 3]), 2.5)
  t.ok(Number.isNaN(median([])))
  const values = Array.from({ length: 50 }, (_, index) => index)
  t.strictSame(
    shuffled(values).sort((a, b) => a - b),
    values
  )
  t.notSame(
    shuffled(values, () => 0),
    values
  )
})

t.test('cases of one round are compared with each other, every case in every round', async t => {
  const order: string[] = []
  const spin = (name: string, work: number) => ({
    name,
    run (iterations: number) {
      order.push(name)
      for (let i = 0, x = 0; i < iterations * work; i++) x += Math.sqrt(i + x)
    }
  })
  const samples = await measure([spin('once', 2000), spin('thrice', 6000)], { rounds: 5, sliceMs: 5 })
  t.equal(samples['once']?.length, 5)
  t.equal(samples['thrice']?.length, 5)
  t.strictSame(order.slice(-10).filter(name => name === 'once').length, 5)
  t.equal(ratio({ a: [2, 4, 9], b: [1, 2, 3] }, 'a', 'b'), 2)
})

t.test('a run writes what it measured, on what, and the samples', async t => {
  const file = join(await mkdtemp(join(tmpdir(), 'bench-')), 'guard.json')
  const { stdout } = await run('guard', '--quick', '--json', file)
  t.match(stdout, /guarded_vs_bare/)
  const result = JSON.parse(await readFile(file, 'utf8'))
  t.match(result, {
    name: 'guard',
    machine: { cpu: String, cores: Number },
    versions: { node: process.versions.node, fastify: /^5\./ }
  })
  for (const key of ['public_vs_bare', 'guarded_vs_bare', 'added_us_guarded', 'decision_ns']) {
    t.ok(Number.isFinite(result.metrics[key]), key)
  }
  t.equal(result.samples.bare.length, result.samples.guarded.length)
})

t.test('limits: exactly the metrics it promises, each beside its goal', async t => {
  const file = join(await mkdtemp(join(tmpdir(), 'bench-')), 'limits.json')
  await t.rejects(run('rate-limit', '--limit', '0'), {
    code: 2,
    stderr: /--limit must be an integer from 1 to 1000000, not "0"/
  })
  const { stdout } = await run('rate-limit', '--quick', '--json', file)
  const { metrics, versions } = JSON.parse(await readFile(file, 'utf8'))
  const promised = [
    'rule1_vs_bare',
    'rule1_vs_frl',
    'rule3_vs_bare',
    'rule3_vs_frl',
    'denied_vs_bare',
    'added_p50_1conn_ms',
    'added_p50_64conn_ms',
    'added_p99_64conn_ms',
    'node_us_1rule',
    'node_us_3rules',
    'redis_cpu_vs_frl',
    'evalsha_per_request',
    'memory_vs_zset',
    'checks_per_s_1rule',
    'checks_per_s_3rules',
    'lease3_vs_bare',
    'lease_checks_per_s'
  ]
  const beside = ['rule1_vs_frl_pipelined', 'rule3_vs_frl_pipelined', 'redis_cpu_vs_frl_pipelined']
  t.strictSame(Object.keys(metrics).sort(), [...promised, ...beside].sort())
  for (const key of promised) t.match(stdout, new RegExp(`  ${key} .*goal `))
  for (const [key, value] of Object.entries(metrics)) t.ok(Number.isFinite(value), key)
  t.match(versions, { '@fastify/rate-limit': /^11\./ })
  // Counted, not timed: no load of the machine changes them much.
  t.ok(metrics.evalsha_per_request < 0.2, `evalsha_per_request ${metrics.evalsha_per_request}`)
  t.ok(metrics.memory_vs_zset < 0.45, `memory_vs_zset ${metrics.memory_vs_zset}`)
})
