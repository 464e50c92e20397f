import { MartyError, type ErrorDefinition } from '@marty/core'
import { formatProblem, type SourceProblem } from './problem.js'

/** The configuration is not valid. Lists every mistake that was found, not only the first. */
export class ConfigError extends MartyError {
  static readonly definition: ErrorDefinition<'MARTY_CONFIG_INVALID'> = {
    code: 'MARTY_CONFIG_INVALID',
    statusCode: 500,
    message: 'The configuration is not valid'
  }

  declare readonly code: 'MARTY_CONFIG_INVALID'
  readonly problems: readonly SourceProblem[]

  constructor (problems: readonly SourceProblem[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
    super(ConfigError.definition, {
      message: `The configuration has ${count}:\n${problems.map(problem => `  ${formatProblem(problem)}`).join('\n')}`
    })
    this.problems = Object.freeze([...problems])
  }
}
