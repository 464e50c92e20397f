import './augment.js'
import { RuleInvalid, useGuard, type Call, type CheckRun, type Operation } from '@marty/core'
import type { FastifyBaseLogger, FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { DenyCache } from './deny-cache.js'
import { RateLimitExceeded } from './errors.js'
import { createGuardedStore } from './guarded-store.js'
import { observe } from './limit-operations.js'
import { createLimiter, type LimitDecision, type Policy } from './limiter.js'
import { createMemoryStore } from './memory-store.js'
import { resolveOptions, verifyNames, type RateLimitOptions, type ResolvedOptions } from './options.js'
import { createRedisStore } from './redis-store.js'
import { responseHeaders } from './response-headers.js'
import type { LimitStore } from './store.js'

async function plugin (fastify: FastifyInstance, options: RateLimitOptions): Promise<void> {
  const resolved = resolveOptions(options)
  const denied = new DenyCache(resolved.maxKeys)
  const observation = observe(resolved, denied)
  const memory = createMemoryStore(resolved.now === undefined ? { maxKeys: resolved.maxKeys } : { maxKeys: resolved.maxKeys, now: resolved.now })
  const limiter = createLimiter(resolved, createStore(resolved, memory, fastify.log), denied, observation.observer)
  fastify.decorate('limiter', { check: limiter.check, ...observation.operate(limiter, memory) })
  fastify.addHook('onReady', async () => { observation.start() })
  fastify.addHook('onClose', async () => { observation.close() })

  const failureRules = (operation: Operation): readonly string[] =>
    operation.rule.public === true ? [] : resolved.onAuthenticationFailure

  const guard = useGuard(fastify)
  guard.addCheck({
    name: '@marty/rate-limit known offenders',
    stage: 'admit',
    keys: ['limits'],
    compile (operation) {
      const rules = rulesOf(operation, resolved)
      const own = rules.filter(limiter.isKnowable)
      const all = union(own, failureRules(operation).filter(limiter.isKnowable))
      if (all.length === 0) return null
      return call => {
        // Whoever has proved already who it is, on a connection that lives on, is guessing nothing: a neighbour's failures are not held against it.
        const decision = limiter.known(subjectOf(call), call.principal.kind === 'anonymous' ? all : own)
        if (decision !== null) answer(call, decision, limiter.policiesOf(union(rules, decision.violated)))
      }
    }
  })
  guard.addCheck({
    name: '@marty/rate-limit',
    stage: 'throttle',
    keys: ['limits'],
    compile: operation => charge(rulesOf(operation, resolved)),
    compileFailure (operation) {
      const rules = rulesOf(operation, resolved)
      // Without a credential nothing is guessed: an anonymous call like any other.
      const anonymous = charge(rules)
      // A wrong one costs the operation's address limits too, or failing would be the cheaper way to knock.
      const guess = resolved.onAuthenticationFailure.length === 0
        ? anonymous
        : charge(union(rules.filter(name => resolved.rules.get(name)!.by.startsWith('address')), failureRules(operation)))
      if (anonymous === null && guess === null) return null
      return call => (isGuess(call) ? guess : anonymous)?.(call)
    }
  })

  function isGuess (call: Call): boolean {
    return call.token !== null || (call.request !== null && guard.hasCredential(call.request))
  }

  function charge (names: readonly string[]): CheckRun | null {
    if (names.length === 0) return null
    return call => {
      const decision = limiter.take(subjectOf(call), names)
      return decision instanceof Promise ? decision.then(decision => { answer(call, decision) }) : answer(call, decision)
    }
  }
}

function createStore ({ store, maxKeys }: ResolvedOptions, memory: LimitStore, log: FastifyBaseLogger): LimitStore {
  if (store === 'memory') return memory
  const { redis, prefix, ...guarded } = store
  return createGuardedStore({
    ...guarded,
    store: createRedisStore(prefix === undefined ? { redis } : { redis, prefix }),
    maxKeys,
    onDegraded: error => { log.warn({ err: error, onFailure: guarded.onFailure ?? 'local' }, 'the limiter cannot reach Redis') }
  })
}

/** The rules of one operation: its transport's, then its own. */
function rulesOf (operation: Operation, options: ResolvedOptions): readonly string[] {
  const { limits = [] } = operation.rule
  if (limits === false) return []
  verifyNames('security.limits', limits, options.rules, (field, message) => new RuleInvalid(`${field} ${message}`))
  return union(options.apply[operation.transport], limits)
}

function union (a: readonly string[], b: readonly string[]): readonly string[] {
  return [...new Set([...a, ...b])]
}

function subjectOf (call: Call): { address: string | null, principal: Call['principal'], operation: string } {
  return { address: call.address, principal: call.principal, operation: call.operation.name }
}

function answer (call: Call, decision: LimitDecision, policies: readonly Policy[] = decision.quotas): void {
  const headers = responseHeaders(decision, policies)
  call.responseHeaders = { ...call.responseHeaders, ...headers }
  if (decision.allowed) return
  throw new RateLimitExceeded({
    message: `Too many requests; the next one fits in ${decision.retryAfterMs} ms`,
    // A refusal is true for a moment only, so no cache may keep it.
    headers: { ...headers, 'cache-control': 'no-store' },
    data: { retry_after_ms: decision.retryAfterMs, 'violated-policies': decision.violated, ...(decision.degraded ? { degraded: true } : {}) }
  })
}

export const rateLimit: FastifyPluginAsync<RateLimitOptions> = fp(plugin, { name: '@marty/rate-limit', fastify: '5.x' })
export default rateLimit

export { BudgetInvalid, OptionInvalid, RateLimitExceeded, RuleUnknown, StoreUnavailable } from './errors.js'
export { createGuardedStore, type GuardedStoreOptions, type StoreFailureMode } from './guarded-store.js'
export type { LimitDecision, Limiter, Policy, Quota, Who } from './limiter.js'
export { createMemoryStore, type MemoryStoreOptions } from './memory-store.js'
export type { LimitRule, RateLimitOptions, RedisStoreSettings } from './options.js'
export { createRedisStore, type RedisStoreOptions } from './redis-store.js'
export type { Charge, ChargeState, LimitStore, StoreAnswer } from './store.js'
export type { LimitBy, LimitSubject } from './subject.js'
export type { BudgetName } from './budget.js'
export { createLimitAdmin, type BudgetState, type LimitAdmin, type LimitAdminOptions } from './limit-admin.js'
export type { LimitOperations } from './limit-operations.js'
export type { LimitMetrics, LimitOutcome } from './metrics.js'
export type { Refused } from './refusals.js'
export type { OperableStore } from './store.js'
