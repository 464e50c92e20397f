import './augment.js'

export { addressKey } from './address-key.js'
export type { AuthenticationContext, Authenticator } from './guard/authenticator.js'
export { createCall, type Call } from './guard/call.js'
export { checkOptions, optionsInvalid, type OptionProblem, type OptionScope } from './options/check-options.js'
export { CircuitBreaker, type CircuitBreakerOptions } from './circuit-breaker.js'
export { closest, didYouMean, didYouMeanOrKnown } from './did-you-mean.js'
export {
  ChunkExtensionsTooLarge, CredentialInvalid, GuardScope, HeadersTooLarge, RequestMalformed, RequestTimeout,
  RouteUndeclared, RouteUnguarded, RuleInvalid, RuleMissing, Unauthenticated
} from './errors.js'
export type { EventSink, SecurityEvent, SecurityEventType } from './guard/event.js'
export {
  createGuard, type Authorizer, type Guard, type GuardOptions, type OperationSource, type Refusals
} from './guard/guard.js'
export type { Metric, MetricSource, MetricValue } from './guard/metric.js'
export { declareRule, declareRules, setProblemHandlers, useGuard } from './http/http.js'
export type { RouteRule } from './http/route-rules.js'
export {
  defineError, MartyError, rpcCodeOf, type ErrorDefinition, type ErrorDetails, type MartyErrorConstructor
} from './marty-error.js'
export { append, Multimap } from './multimap.js'
export type {
  AuthFailureRun, Check, CheckRun, GuardedOperation, Operation, OperationFacts, OperationReport, Stage, Verdict
} from './guard/operation.js'
export type { ItemSpec, OptionSpec, OptionTable } from './options/option-table.js'
export { isOrigin, ORIGIN } from './options/origin.js'
export {
  ANONYMOUS, effectivePrincipal, type AuthenticationMethod, type Principal, type PrincipalClaims
} from './principal.js'
export { KeyedSingleFlight, SingleFlight } from './single-flight.js'
export { problemErrorHandler, problemNotFoundHandler, toProblem, type Problem } from './http/problem.js'
export { logRefusal, type Refusal } from './http/refusal-log.js'
export { rule, type PermissionName, type SecurityRule } from './rule.js'
export { createSampler, type Omitted, type Sampler, type SamplerOptions } from './sampler.js'
export {
  problemServerOptions, setClientErrorHandler, setStandardHeaders, type StandardHeaders
} from './http/unrouted-responses.js'
export type { StartProblem } from './guard/start-problems.js'
