import './augment.js'
import { useGuard, type Call, type CheckRun, type MartyError, type Operation, type Verdict } from '@marty/core'
import { withinDeadline } from '@marty/redis/deadline'
import type { FastifyBaseLogger, FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { DenyCache } from './store/deny-cache.js'
import type { InstanceCount } from './store/instance-count.js'
import { limitReadings } from './admin/metrics.js'
import { observe } from './admin/operations.js'
import type { LimitDecision } from './decision.js'
import { createLimiter, isKnowable } from './limiter.js'
import { LeasedStore } from './leases/leased-store.js'
import { createMemoryStore } from './store/memory.js'
import { resolveOptions, type RateLimitOptions, type ResolvedOptions } from './options.js'
import { createRedisLeases } from './leases/redis-leases.js'
import { rateLimitRefusal } from './refusal.js'
import { responseHeaders } from './response-headers.js'
import { createSharedStore } from './store/shared.js'
import { createRouteRules, planOf, union, type AppliedRule, type Plan } from './route-rules.js'
import type { LimitSubject } from './subject.js'
import { warnOfTrustedClients } from './trust-proxy.js'

async function plugin (fastify: FastifyInstance, options: RateLimitOptions): Promise<void> {
  const guard = useGuard(fastify)
  const resolved = resolveOptions(options)
  const denied = new DenyCache(resolved.maxKeys)
  const observation = observe(resolved, denied)
  const memory = createMemoryStore({ maxKeys: resolved.maxKeys, now: resolved.now })
  const shared = createShared(resolved, fastify.log)
  const store = shared?.store ?? memory
  const limiter = createLimiter(resolved, store, denied, observation.observer)
  const { check, enforce, refund } = limiter
  const operations = observation.operate(limiter, memory, shared?.store ?? null)
  fastify.decorate('limiter', { check, enforce, refund, ...operations })
  guard.addMetrics(() => limitReadings(operations.metrics()))
  fastify.addHook('onReady', async () => {
    observation.start()
    shared?.count?.start()
  })
  fastify.addHook('onClose', async () => {
    observation.close()
    // Leased units that are not returned in time expire with the window.
    if (shared !== null) {
      await withinDeadline(CLOSE_MS, Promise.all([shared.store.close(), shared.count?.close()]), 'Redis').catch(
        () => {}
      )
    }
  })
  warnOfTrustedClients(fastify)

  const routeRules = createRouteRules(resolved)
  const failures = routeRules.named('onAuthenticationFailure', resolved.onAuthenticationFailure)

  const failureRules = (operation: Operation): readonly AppliedRule[] => operation.rule.public === true ? [] : failures

  guard.addCheck({
    name: '@marty/rate-limit known offenders',
    stage: 'admit',
    keys: ['limits'],
    compile (operation) {
      const rules = routeRules.of(operation)
      const own = rules.filter(isKnowable)
      const all = union(own, failureRules(operation).filter(isKnowable))
      if (all.length === 0) return null
      const plan = planOf(union(rules, failureRules(operation)))
      return call => {
        if (denied.isEmpty) return
        // Failures of other clients behind the same address count only against a credential that could be a guess. An
        // authenticated caller does not guess, and a credential that cannot be guessed is verified first: if it is
        // wrong, the same limits refuse it afterwards.
        const mayBeGuess = call.principal.kind === 'anonymous' && guard.isGuessable(call)
        const decision = limiter.cachedRefusal(subjectOf(call), mayBeGuess ? all : own)
        return decision === null ? undefined : answer(call, decision, plan.policy)
      }
    }
  })
  guard.addCheck({
    name: '@marty/rate-limit',
    stage: 'throttle',
    keys: ['limits'],
    compile: operation => charge(planOf(routeRules.of(operation))),
    describe: operation => ({ limits: routeRules.of(operation).map(({ rule }) => rule.name) }),
    compileOnAuthFailure (operation) {
      const rules = routeRules.of(operation)
      // A call without a credential guesses nothing; charge it like any other anonymous call.
      const anonymous = charge(planOf(rules))
      // A wrong credential is charged to the operation's address limits too; otherwise a failing call would cost less
      // than a valid one.
      const guess = failures.length === 0
        ? anonymous
        : charge(planOf(union(rules.filter(({ rule }) => rule.by.startsWith('address')), failureRules(operation))))
      if (anonymous === null && guess === null) return null
      return (call, error) => (isGuess(call, error) ? guess : anonymous)?.(call)
    }
  })

  if (resolved.fastifyRateLimit !== false) {
    const { registerFastifyRateLimit } = await import('./fastify-rate-limit/plugin.js')
    await registerFastifyRateLimit(fastify, resolved.fastifyRateLimit, {
      store, denied, observer: observation.observer, now: resolved.now
    })
  }

  /**
   * False for other errors (a store did not answer, or a cross-site browser request),
   * where the credential may be right.
   */
  function isGuess (call: Call, error: unknown): boolean {
    const { statusCode } = error as Partial<MartyError>
    if (statusCode !== 401 && statusCode !== 429) return false
    return call.token !== null || (call.request !== null && guard.hasCredential(call.request))
  }

  function charge (plan: Plan): CheckRun | null {
    if (plan.rules.length === 0) return null
    const policy = plan.isConstant ? plan.policy : null
    return call => limiter.take(subjectOf(call), plan.rules, decision => answer(call, decision, policy))
  }

  function answer (call: Call, decision: LimitDecision, policy: string | null): Verdict {
    const headers = responseHeaders(decision, resolved.headers, policy)
    // Set the headers on a refusal too, so that a custom error handler need not know about them.
    call.responseHeaders = call.responseHeaders === null ? headers : { ...call.responseHeaders, ...headers }
    return decision.allowed ? undefined : rateLimitRefusal(decision, call.responseHeaders)
  }
}

/** Longest wait for Redis when the application closes. */
const CLOSE_MS = 50

interface Shared {
  readonly store: LeasedStore
  readonly count: InstanceCount | null
}

/** Null for the memory store, where a decision costs no more than spending a lease would. */
function createShared ({ store, maxKeys }: ResolvedOptions, log: FastifyBaseLogger): Shared | null {
  if (store === 'memory') return null
  const { redis, prefix, onFailure } = store
  const { store: guarded, count } = createSharedStore(store, {
    maxKeys,
    onDegraded: error => {
      log.warn({ err: error, onFailure }, 'the limiter cannot reach Redis')
    },
    onUncounted: error => {
      log.warn({ err: error, instances: count!.current() }, 'the limiter cannot count its instances in Redis')
    }
  })
  const leases = createRedisLeases({ redis, prefix })
  return { store: new LeasedStore({ store: guarded, leases, maxKeys }), count }
}

function subjectOf (call: Call): LimitSubject {
  return { address: call.address, principal: call.principal, operation: call.operation.name }
}

export const rateLimit: FastifyPluginAsync<RateLimitOptions> = fp(plugin, { name: '@marty/rate-limit', fastify: '5.x' })
export default rateLimit

export { BudgetInvalid, RateLimitExceeded, RateLimitOptionInvalid, RuleUnknown, StoreUnavailable } from './errors.js'
export { createGuardedStore, type GuardedStoreOptions, type StoreFailureMode } from './store/failover.js'
export { createInstanceCount, type InstanceCount, type InstanceCountOptions } from './store/instance-count.js'
export type { LimitDecision, Policy, Quota } from './decision.js'
export type { Limiter, Who } from './limiter.js'
export { createMemoryStore, type MemoryStoreOptions } from './store/memory.js'
export type { RateLimitOptions } from './options.js'
export type { BurstLimit, LimitRule } from './rule-options.js'
export type { RedisStoreSettings } from './store-options.js'
export { ClientBanned } from './errors.js'
export type { FastifyRateLimitRefusal, FastifyRateLimitSettings } from './fastify-rate-limit/settings.js'
export * from './fastify-rate-limit/index.js'
export { createRedisStore, type RedisStoreOptions } from './redis/store.js'
export type { BatchStore, Charge, ChargeState, LastKnown, LimitStore, StoreAnswer } from './store/store.js'
export type { LimitBy, LimitSubject } from './subject.js'
export { presets, type PresetName } from './presets.js'
export type { HeaderStyle } from './response-headers.js'
export type { InlineRule, PricedRule, RouteLimit } from './route-rules.js'
export type { BudgetName } from './admin/budget.js'
export { createLimitAdmin, type BudgetState, type LimitAdmin, type LimitAdminOptions } from './admin/admin.js'
export type { LimitOperations } from './admin/operations.js'
export type { LimitMetrics, LimitOutcome } from './admin/metrics.js'
export type { Refused } from './admin/refusals.js'
export type { OperableStore } from './store/store.js'
export {
  LeasedStore, type Grant, type LeasedStoreOptions, type LeaseOptions, type LeaseRequest, type LeaseStore
} from './leases/leased-store.js'
export { createRedisLeases } from './leases/redis-leases.js'
