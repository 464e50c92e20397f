import { audit } from '@marty/audit'
import { auth } from '@marty/auth'
import { declareRules, optionsInvalid, setProblemHandlers, useGuard } from '@marty/core'
import { headers } from '@marty/headers'
import { rateLimit } from '@marty/rate-limit'
import { rbac } from '@marty/rbac'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import './augment.js'
import { createSecurity, logBootAudit } from './boot-audit.js'
import { GuardNotStrict } from './errors.js'
import { PARTS, resolveOptions, SCOPE, type SecurityOptions } from './options.js'

const plugin: FastifyPluginAsync<SecurityOptions> = async (fastify, options) => {
  try {
    await secure(fastify, options)
  } catch (error) {
    // If the application catches this error, for example with `after(error => {})`, it must still not start, because
    // some of its checks would be missing.
    fastify.addHook('onReady', async () => { throw error })
    throw error
  }
}

async function secure (fastify: FastifyInstance, given: SecurityOptions): Promise<void> {
  // Create the guard before any part can fail.
  const guard = useGuard(fastify, { strict: true, refusals: given.refusals ?? 'fast' })
  const options = resolveOptions(given)
  const { environment, refusals } = options
  if (!guard.strict) throw new GuardNotStrict()
  if (guard.refusals !== refusals) {
    const problem = `is "${refusals}", but the guard was created before with "${guard.refusals}": use the same for both`
    throw optionsInvalid(SCOPE, [{ field: 'refusals', problem }])
  }
  setProblemHandlers(fastify)
  declareRules(fastify, options.rules)

  if (options.headers !== false) await fastify.register(headers, { ...options.headers, environment })
  if (options.metrics !== false) {
    // The library behind it is loaded only when it is used.
    const { metrics } = await import('@marty/metrics')
    await fastify.register(metrics, options.metrics)
  }
  if (options.limits !== false) await fastify.register(rateLimit, options.limits)
  if (options.auth !== false) await fastify.register(auth, options.auth)
  if (options.rbac !== false) await fastify.register(rbac, { environment, ...options.rbac })
  // Register audit last: an operation that must be recorded before it runs is recorded only after it was allowed.
  if (options.audit !== false) await fastify.register(audit, options.audit)

  const security = createSecurity(guard, environment, () => fastify.auth?.sessionCookie?.name ?? null)
  fastify.decorate('security', security)
  const without = PARTS.filter(part => options[part] === false)
  fastify.addHook('onReady', async () => { logBootAudit(fastify.log, security, without) })
}

/**
 * Registers all security plugins: the strict guard, problem documents, headers, limits, authentication, permissions and
 * the audit log. Register it on the root instance, before any route, and await it: otherwise the start is refused with
 * `MARTY_CORE_GUARD_SCOPE` or `MARTY_CORE_ROUTE_UNGUARDED`. Throws `MARTY_SECURITY_OPT_INVALID` and the errors of its
 * parts.
 */
export const security: FastifyPluginAsync<SecurityOptions> = fp(plugin, { name: '@marty/security', fastify: '5.x' })
export default security

export type { Audit, AuditOptions } from '@marty/audit'
export type { ApiKeys, AuthOptions, Sessions, TokenRequest, Tokens } from '@marty/auth'
export {
  ANONYMOUS, declareRule, defineError, MartyError, problemServerOptions, rule, type Guard, type MartyErrorConstructor,
  type Metric, type MetricSource, type Operation, type Principal, type Refusals, type RouteRule, type SecurityEvent,
  type SecurityRule
} from '@marty/core'
export type { Environment, HeadersOptions } from '@marty/headers'
export type { Limiter, LimitRule, RateLimitOptions } from '@marty/rate-limit'
export type { Permission, Rbac, RbacOptions, Role } from '@marty/rbac'
export type { OperationSecurity, Security } from './boot-audit.js'
export type { OpenApiDocument } from './openapi.js'
export { GuardNotStrict, SecurityOptionInvalid } from './errors.js'
export type { SecurityOptions } from './options.js'
