import type { Metric } from '@marty/core'
import type { MetricsOptions } from '@marty/metrics'
import t from 'tap'

const options: MetricsOptions = { security: { public: true }, path: null, bucketsSeconds: [0.1], process: false }
// @ts-expect-error buckets are numbers of seconds
const words: MetricsOptions = { security: { public: true }, bucketsSeconds: ['100 ms'] }
// @ts-expect-error a reading is a counter or a gauge
const histogram: Metric = { name: 'x', help: 'x', type: 'histogram', values: [] }

t.test('types', async t => { t.ok([options, words, histogram].every(Boolean)) })
