import type { SourceProblem } from '@marty/config'
import type { CasbinEngine } from './casbin-engine.js'
import type { PolicyDefinition } from './definition.js'
import type { PolicyIndex } from './policy-index.js'

/** Casbin looks at every row for every decision; this many looks take about a second. */
const MAX_ROW_VISITS = 1_000_000
const MIN_SAMPLES = 100
const MAX_TOLD = 10

/**
 * Asks Casbin what the index has compiled: every role by itself, all roles together and no role, for every permission
 * in every environment. Of a table too large for that, an even sample. Any difference is a fault of the compiler.
 */
export function selfCheck (definition: PolicyDefinition, engine: CasbinEngine, index: PolicyIndex): SourceProblem[] {
  const { permissions, environments, file } = definition
  const names = [...definition.roles.keys()]
  const callers: ReadonlyArray<readonly string[]> = [...names.map(name => [name]), names, []]
  const cells = callers.length * permissions.length * environments.length
  const samples = Math.min(cells, Math.max(MIN_SAMPLES, Math.floor(MAX_ROW_VISITS / Math.max(1, engine.rows.length))))
  const problems: SourceProblem[] = []
  for (let sample = 0; sample < samples && problems.length < MAX_TOLD; sample++) {
    const cell = Math.floor(sample * cells / samples)
    const permission = cell % permissions.length
    const environment = Math.floor(cell / permissions.length) % environments.length
    const caller = callers[Math.floor(cell / permissions.length / environments.length)]!
    const expected = engine.decide(caller, permissions[permission]!, environments[environment]!)
    if (index.decide(caller, permission, environment) !== expected) {
      problems.push({
        source: file,
        line: 0,
        column: 0,
        message: `the compiled policy and Casbin disagree on ${permissions[permission]} for ${caller.join('+') || 'nobody'} in ${environments[environment]}`
      })
    }
  }
  return problems
}
