import './augment.js'
import { RuleInvalid, useGuard, type Call, type CheckRun, type Operation } from '@marty/core'
import type { FastifyBaseLogger, FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { performance } from 'node:perf_hooks'
import { DenyCache } from './deny-cache.js'
import { RateLimitExceeded } from './errors.js'
import { registerFastifyRateLimit } from './fastify-rate-limit.js'
import { createGuardedStore } from './guarded-store.js'
import { createLimiter, type LimitDecision, type Policy } from './limiter.js'
import { createMemoryStore } from './memory-store.js'
import { resolveOptions, verifyNames, type RateLimitOptions, type ResolvedOptions } from './options.js'
import { createRedisStore } from './redis-store.js'
import { responseHeaders } from './response-headers.js'
import type { LimitStore } from './store.js'

async function plugin (fastify: FastifyInstance, options: RateLimitOptions): Promise<void> {
  const resolved = resolveOptions(options)
  const store = createStore(resolved, fastify.log)
  const limiter = createLimiter(resolved, store, new DenyCache(resolved.maxKeys))
  fastify.decorate('limiter', limiter)

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

  if (resolved.fastifyRateLimit !== false) {
    await registerFastifyRateLimit(fastify, resolved.fastifyRateLimit, { store, denied: new DenyCache(resolved.maxKeys), now: resolved.now ?? (() => performance.now()) })
  }

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

function createStore ({ store, maxKeys, now }: ResolvedOptions, log: FastifyBaseLogger): LimitStore {
  if (store === 'memory') return createMemoryStore(now === undefined ? { maxKeys } : { maxKeys, now })
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

export { OptionInvalid, RateLimitExceeded, StoreUnavailable } from './errors.js'
export { createGuardedStore, type GuardedStoreOptions, type StoreFailureMode } from './guarded-store.js'
export type { LimitDecision, Limiter, Policy, Quota } from './limiter.js'
export { createMemoryStore, type MemoryStoreOptions } from './memory-store.js'
export type { LimitRule, RateLimitOptions, RedisStoreSettings } from './options.js'
export { ClientBanned } from './errors.js'
export type { FastifyRateLimitSettings } from './fastify-rate-limit-settings.js'
export type { SlidingWindowStoreConstructor, SlidingWindowStoreInstance } from './fastify-rate-limit-store.js'
export { SlidingWindowStore, slidingWindowStore, type SlidingWindowStoreOptions } from './sliding-window-store.js'
export { createRedisStore, type RedisStoreOptions } from './redis-store.js'
export type { BatchStore, Charge, ChargeState, LastKnown, LimitStore, StoreAnswer } from './store.js'
export type { LimitBy, LimitSubject } from './subject.js'
