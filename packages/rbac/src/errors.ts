import { formatProblem, type SourceProblem } from '@marty/config'
import { defineError, MartyError, type ErrorDefinition, type MartyErrorConstructor } from '@marty/core'

export const OptionInvalid: MartyErrorConstructor<'MARTY_RBAC_OPT_INVALID'> = defineError({
  code: 'MARTY_RBAC_OPT_INVALID',
  statusCode: 500,
  message: 'An option of @marty/rbac is not valid'
})

/** The policy does not allow it. Tells the caller what was asked for, and nothing of the policy. */
export const Denied: MartyErrorConstructor<'MARTY_RBAC_DENIED'> = defineError({
  code: 'MARTY_RBAC_DENIED',
  statusCode: 403,
  message: 'You are not allowed to do this'
})

/** A program asked about a permission that the policy does not define: a misspelt name must not quietly deny. */
export const PermissionUnknown: MartyErrorConstructor<'MARTY_RBAC_PERMISSION_UNKNOWN'> = defineError({
  code: 'MARTY_RBAC_PERMISSION_UNKNOWN',
  statusCode: 500,
  message: 'The policy defines no such permission'
})

/** Redis, in which policies are published, does not answer. Those in use stay in use. */
export const PolicyStoreUnavailable: MartyErrorConstructor<'MARTY_RBAC_STORE_UNAVAILABLE'> = defineError({
  code: 'MARTY_RBAC_STORE_UNAVAILABLE',
  statusCode: 503,
  message: 'The store of policies does not answer; try again shortly'
})

/** What a decision hangs on could not be loaded, so there is none. The cause is for the log, never for the caller. */
export const AttributesFailed: MartyErrorConstructor<'MARTY_RBAC_ATTRIBUTES_FAILED'> = defineError({
  code: 'MARTY_RBAC_ATTRIBUTES_FAILED',
  statusCode: 500,
  message: 'The attributes that the decision hangs on could not be loaded'
})

/** A question to be explained makes no sense. Only those who may ask for explanations are told why. */
export const QuestionInvalid: MartyErrorConstructor<'MARTY_RBAC_QUESTION_INVALID'> = defineError({
  code: 'MARTY_RBAC_QUESTION_INVALID',
  statusCode: 400,
  message: 'The question is not valid'
})

/** The policy cannot be used. Holds every mistake that was found, not only the first. */
export class PolicyInvalid extends MartyError {
  static readonly definition: ErrorDefinition<'MARTY_RBAC_POLICY_INVALID'> = {
    code: 'MARTY_RBAC_POLICY_INVALID',
    statusCode: 500,
    message: 'The policy is not valid'
  }

  declare readonly code: 'MARTY_RBAC_POLICY_INVALID'
  readonly problems: readonly SourceProblem[]

  constructor (problems: readonly SourceProblem[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
    super(PolicyInvalid.definition, {
      message: `The policy has ${count}:\n${problems.map(problem => `  ${formatProblem(problem)}`).join('\n')}`
    })
    this.problems = Object.freeze([...problems])
  }
}
