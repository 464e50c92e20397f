import type { Metric } from '@marty/core'
import type { PolicyStatus } from './reload/source.js'

/** The state of the policy, for `@marty/metrics`. */
export function policyReadings ({ generation, loadedAt, stale }: PolicyStatus): Metric[] {
  const gauge = (name: string, help: string, value: number): Metric => ({ name, help, type: 'gauge', values: [{ value }] })
  return [
    gauge('policy_generation', 'Generation of the policy in use: 1 at the start, and one more after each reload.', generation),
    gauge('policy_stale', '1 while there is, or may be, a newer policy that cannot be used.', stale ? 1 : 0),
    gauge('policy_loaded_timestamp_seconds', 'When the policy was taken into use.', Date.parse(loadedAt) / 1000)
  ]
}
