import type { FastifyBaseLogger } from 'fastify'
import type { Attributes } from '../conditions/evaluate.js'
import type { Policy } from './policy.js'

/** How many decisions of the compiled policy were checked with Casbin, and how many differed. */
export interface Shadow {
  readonly checked: number
  /** At most 1: after the first difference, Casbin decides. */
  readonly diverged: number
}

export interface Decider {
  readonly shadow: Shadow
  /**
   * Decides from the compiled policy, and compares a fraction of the decisions with Casbin. After the
   * first difference, Casbin alone decides.
   */
  decide(
    policy: Policy,
    permissionId: number,
    permission: string,
    roles: readonly string[],
    attributes: Attributes
  ): boolean
}

/**
 * Sampling costs a decision one decrement. The comparison runs in a separate turn of the event loop, and
 * at most one is waiting. Both sides are evaluated there for the same time, so that neither the clock nor
 * changes by a handler can make them differ.
 */
export function createDecider (
  rate: number,
  environment: string,
  environmentId: number,
  log: FastifyBaseLogger
): Decider {
  const every = rate === 0 ? Infinity : Math.ceil(1 / rate)
  let left = every
  let checked = 0
  let diverged = 0
  let waiting = false

  const byIndex = (policy: Policy, permissionId: number, roles: readonly string[], attributes: Attributes): boolean =>
    policy.decideId(policy.roleSet(roles, attributes), permissionId, environmentId, attributes)
  // A permission that a later generation no longer defines is denied.
  const byCasbin = (policy: Policy, permission: string, roles: readonly string[], attributes: Attributes): boolean =>
    policy.permissionId(permission) !== undefined && policy.decideByCasbin(roles, permission, environment, attributes)

  const compare = (
    policy: Policy,
    permissionId: number,
    permission: string,
    roles: readonly string[],
    attributes: Attributes
  ): void => {
    waiting = false
    const asked = { ...attributes, time: attributes.time ?? Date.now() }
    try {
      const answer = byIndex(policy, permissionId, roles, asked)
      checked++
      if (answer === byCasbin(policy, permission, roles, asked)) return
      diverged++
      left = 0
      log.error(
        { permission, roles, environment, generation: policy.generation, sha256: policy.sha256, compiled: answer },
        'the compiled policy and Casbin disagree; from now on Casbin decides'
      )
    } catch (error) {
      log.error({ err: error, permission }, 'the compiled policy could not be compared with Casbin')
    }
  }
  return {
    get shadow () {
      return { checked, diverged }
    },
    decide (policy, permissionId, permission, roles, attributes) {
      if (--left > 0) return byIndex(policy, permissionId, roles, attributes)
      if (diverged > 0) return byCasbin(policy, permission, roles, attributes)
      left = every
      if (!waiting) {
        waiting = true
        setImmediate(compare, policy, permissionId, permission, [...roles], attributes).unref()
      }
      return byIndex(policy, permissionId, roles, attributes)
    }
  }
}
