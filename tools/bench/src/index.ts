export { guardBench } from './guard.bench.js'
export { machine, measure, ratio, type Case, type Plan, type Result, type Samples } from './harness.js'
export { median, shuffled } from './statistics.js'
