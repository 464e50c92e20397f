import './augment.js'
import { useGuard } from '@marty/core'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { accessCheck } from './access-check.js'
import { permissionHook, rolesHook } from './access-hooks.js'
import type { Attributes } from './conditions/evaluate.js'
import { explainRoute } from './explain-endpoints.js'
import { loadFirstPolicy } from './first-policy.js'
import { resolveOptions, type RbacOptions, type ResolvedOptions } from './options.js'
import { PolicyCompiler } from './reload/compiler.js'
import { unmetRequirements, type ServiceRequirements } from './reload/requirements.js'
import { fileOrigin } from './reload/file.js'
import type { PolicyOrigin } from './reload/origin.js'
import { redisOrigin } from './reload/redis.js'
import { PolicySource } from './reload/source.js'
import { policyReadings } from './policy-readings.js'
import { createAccess, type RoleHolder } from './rbac.js'
import type { Permission, Role } from './register.js'
import { createDecider } from './engine/shadow.js'

export * from './policy.js'
export type { LoadedResource } from './access-check.js'
export type { AccessHook } from './access-hooks.js'
export {
  AccessDenied, AttributesFailed, ExplainRequestInvalid, PolicyStoreUnavailable, RbacOptionInvalid
} from './errors.js'
export { explainMethod, type ExplainAnswer, type ExplainMethod, type ExplainParams } from './explain-endpoints.js'
export type { Filter, FilterComparator, FilterExpression, FilterOperand } from './analysis/filter.js'
export type { RbacOptions, ReloadOptions } from './options.js'
export { publishPolicy, type PolicyRedis, type PublishedPolicy, type PublishPolicyOptions } from './reload/redis.js'
export type { PolicyStatus } from './reload/source.js'
export type { Rbac, RoleHolder } from './rbac.js'
export type { Shadow } from './engine/shadow.js'
export type { Permission, PermissionRegister, Resource, Role } from './register.js'

/**
 * Authorization: may this caller do this, here and now? Loads a policy, refuses to start if the policy has
 * mistakes, and adds `permission` and `roles` to the security rule of routes and RPC methods. Decorates
 * the application with `can` and `rbac`.
 */
export const rbac: FastifyPluginAsync<RbacOptions> = fp(async (fastify: FastifyInstance, given: RbacOptions) => {
  const guard = useGuard(fastify)
  const options = resolveOptions(given)
  const { service, policyTests, reload } = options
  const { policy, bytes, environment } = await loadFirstPolicy(options)
  const requirements: ServiceRequirements = {
    environment: options.environment,
    runsIn: environment,
    service,
    permissions: new Set(),
    roles: new Set()
  }
  const source = new PolicySource({
    policy,
    bytes,
    origin: originOf(options),
    isWatched: reload.isOn,
    tests: policyTests ?? null,
    refuseGain: reload.refuseGain,
    compiler: new PolicyCompiler(reload.timeoutSeconds, Date.now),
    violations: next => unmetRequirements(next, requirements),
    log: fastify.log
  })
  fastify.addHook('onClose', async () => { await source.close() })
  await source.start()
  const decider = createDecider(options.shadowRatio, environment, policy.environmentId(environment)!, fastify.log)
  const access = createAccess(source, environment, service, decider, requirements)
  guard.addCheck(accessCheck(access))
  guard.addMetrics(() => policyReadings(access.rbac.status))
  guard.setAuthorizer((principal, permission, resource) => access.rbac.can(principal, permission, resource))
  fastify.decorate('rbac', access.rbac)
  fastify.decorate('can', (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']) =>
    access.rbac.can(principal, permission, resource)
  )
  fastify.decorateRequest('can', function (permission: Permission, resource?: Attributes['resource']) {
    return access.rbac.can(this.principal, permission, resource)
  })
  fastify.decorate('requirePermission', (permission: Permission) => permissionHook(access, permission))
  fastify.decorate('requireRoles', (...roles: readonly Role[]) => rolesHook(access, roles))
  if (options.explainUrl !== undefined) explainRoute(fastify, access.rbac, options.explainUrl)
  const { current } = source
  fastify.log.info({ policy: current.file, sha256: current.sha256, environment, rules: current.rules }, 'policy loaded')
}, { name: '@marty/rbac', fastify: '5.x' })

/** The source of newer policies; null if the policy never changes. */
function originOf ({ policyFile, policyTests, reload }: ResolvedOptions): PolicyOrigin | null {
  if (reload.redis !== undefined) return redisOrigin(reload.redis, reload.pollMs)
  return policyFile === undefined ? null : fileOrigin(policyFile, policyTests ?? null, reload.pollMs)
}

export default rbac
