import type { SourceProblem } from '@marty/config'
import { didYouMean } from '@marty/core'
import type { Policy } from '../engine/policy.js'
import { problemOf } from './origin.js'

/** What every policy must define for this process. */
export interface ServiceRequirements {
  /** The environment as given in the option, which may be an alias. */
  readonly environment: string
  /** The environment that this name referred to at the start. */
  readonly runsIn: string
  readonly service: string | undefined
  /** Permissions that security rules name. */
  readonly permissions: Set<string>
  readonly roles: Set<string>
}

/**
 * Reports what a policy lacks. Such a policy would deny what the process exists to do, or decide by the
 * rules of another environment.
 */
export function unmetRequirements (
  policy: Policy,
  { environment, runsIn, service, permissions, roles }: ServiceRequirements
): readonly SourceProblem[] {
  const problems: SourceProblem[] = []
  const add = (message: string): void => {
    problems.push(problemOf(policy.file, message))
  }
  const now = policy.environmentNames.get(environment)
  if (now !== runsIn) {
    add(
      `defines ${now === undefined ? 'no environment' : `as "${now}" the environment`} "${environment}", in which ` +
        `this service runs as "${runsIn}"`
    )
  }
  if (service !== undefined && !policy.services.includes(service)) {
    add(`defines no service "${service}", which this one is${didYouMean(service, policy.services)}`)
  }
  const known = policy.roles.map(({ name }) => name)
  for (const name of permissions) {
    if (policy.permissionId(name) === undefined) {
      add(`defines no permission "${name}", which a rule of this service names${didYouMean(name, policy.permissions)}`)
    }
  }
  for (const name of roles) {
    if (!known.includes(name)) {
      add(`defines no role "${name}", which a rule of this service names${didYouMean(name, known)}`)
    }
  }
  return problems
}
