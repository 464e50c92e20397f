import { defineError, type MartyErrorConstructor } from '@marty/core'
import { formatProblem, type SourceProblem } from './problem.js'

const ConfigErrorBase: MartyErrorConstructor<'MARTY_CONFIG_INVALID'> = defineError({
  name: 'ConfigError',
  code: 'MARTY_CONFIG_INVALID',
  statusCode: 500,
  message: 'The configuration is not valid'
})

/** The configuration is not valid. Lists every mistake that was found, not only the first. */
export class ConfigError extends ConfigErrorBase {
  readonly problems: readonly SourceProblem[]

  constructor (problems: readonly SourceProblem[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
    super(`The configuration has ${count}:\n${problems.map(problem => `  ${formatProblem(problem)}`).join('\n')}`)
    this.problems = Object.freeze([...problems])
  }
}
