import { execFile } from 'node:child_process'
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { measure, median, ratio, shuffled } from '@marty/bench'
import t from 'tap'

const run = (...args: string[]): Promise<{ stdout: string, stderr: string }> =>
  promisify(execFile)(process.execPath, [resolve(import.meta.dirname, '../dist/main.js'), ...args])

t.test('wrong arguments: what there is, did you mean, exit 2', async t => {
  await t.rejects(run(), { code: 2, stderr: /Say which bench/ })
  await t.rejects(run('gaurd'), { code: 2, stderr: /did you mean "guard"\?/ })
  await t.rejects(run('guard', '--fast'), { code: 2, stderr: /--fast/ })
  t.match((await run('--help')).stdout, /npm run bench/)
})

t.test('the median is the middle, a shuffle loses nothing', async t => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 2, 3]), 2.5)
  t.ok(Number.isNaN(median([])))
  const values = Array.from({ length: 50 }, (_, index) => index)
  t.strictSame(shuffled(values).sort((a, b) => a - b), values)
  t.notSame(shuffled(values, () => 0), values)
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
  t.match(result, { name: 'guard', machine: { cpu: String, cores: Number }, versions: { node: process.versions.node, fastify: /^5\./ } })
  for (const key of ['public_vs_bare', 'guarded_vs_bare', 'added_us_guarded', 'decision_ns']) t.ok(Number.isFinite(result.metrics[key]), key)
  t.equal(result.samples.bare.length, result.samples.guarded.length)
})
