import { formatProblem, type SourceProblem } from '@marty/config'
import { defineError, type MartyErrorConstructor } from '@marty/core'

export const RbacOptionInvalid: MartyErrorConstructor<'MARTY_RBAC_OPT_INVALID'> = defineError({
  name: 'RbacOptionInvalid',
  code: 'MARTY_RBAC_OPT_INVALID',
  statusCode: 500,
  message: 'An option of @marty/rbac is not valid'
})

/**
 * The policy does not allow the operation. The caller learns which permission was required, and nothing
 * else about the policy.
 */
export const AccessDenied: MartyErrorConstructor<'MARTY_RBAC_DENIED'> = defineError({
  name: 'AccessDenied',
  code: 'MARTY_RBAC_DENIED',
  statusCode: 403,
  message: 'You are not allowed to do this'
})

/**
 * The program used a permission that the policy does not define. It throws, because a misspelt name must
 * not silently deny.
 */
export const PermissionUnknown: MartyErrorConstructor<'MARTY_RBAC_PERMISSION_UNKNOWN'> = defineError({
  name: 'PermissionUnknown',
  code: 'MARTY_RBAC_PERMISSION_UNKNOWN',
  statusCode: 500,
  message: 'The policy defines no such permission'
})

/** Redis, where policies are published, does not answer. The policies in use stay in use. */
export const PolicyStoreUnavailable: MartyErrorConstructor<'MARTY_RBAC_STORE_UNAVAILABLE'> = defineError({
  name: 'PolicyStoreUnavailable',
  code: 'MARTY_RBAC_STORE_UNAVAILABLE',
  statusCode: 503,
  message: 'The store of policies does not answer; try again shortly'
})

/**
 * The attributes that a decision depends on could not be loaded, so there is no decision. The cause goes
 * to the log, never to the caller.
 */
export const AttributesFailed: MartyErrorConstructor<'MARTY_RBAC_ATTRIBUTES_FAILED'> = defineError({
  name: 'AttributesFailed',
  code: 'MARTY_RBAC_ATTRIBUTES_FAILED',
  statusCode: 500,
  message: 'The attributes that the decision hangs on could not be loaded'
})

/** A request for an explanation is malformed. Only callers who may request explanations learn why. */
export const ExplainRequestInvalid: MartyErrorConstructor<'MARTY_RBAC_QUESTION_INVALID'> = defineError({
  name: 'ExplainRequestInvalid',
  code: 'MARTY_RBAC_QUESTION_INVALID',
  statusCode: 400,
  message: 'The request for an explanation is not valid'
})

const PolicyInvalidBase: MartyErrorConstructor<'MARTY_RBAC_POLICY_INVALID'> = defineError({
  name: 'PolicyInvalid',
  code: 'MARTY_RBAC_POLICY_INVALID',
  statusCode: 500,
  message: 'The policy is not valid'
})

/** The policy cannot be used. Holds every mistake that was found, not only the first one. */
export class PolicyInvalid extends PolicyInvalidBase {
  readonly problems: readonly SourceProblem[]

  constructor (problems: readonly SourceProblem[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
    super(`The policy has ${count}:\n${problems.map(problem => `  ${formatProblem(problem)}`).join('\n')}`)
    this.problems = Object.freeze([...problems])
  }
}
