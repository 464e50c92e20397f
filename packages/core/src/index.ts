import './augment.js'

export { addressKey } from './address-key.js'
export type { AuthenticationContext, Authenticator } from './authenticator.js'
export { createCall, type Call } from './call.js'
export { checkOptions, optionsInvalid, type OptionProblem, type OptionScope } from './check-options.js'
export { CircuitBreaker, type CircuitBreakerOptions } from './circuit-breaker.js'
export { closest, didYouMean, didYouMeanOrKnown } from './did-you-mean.js'
export {
  ChunkExtensionsTooLarge, CredentialInvalid, GuardScope, HeadersTooLarge, RequestMalformed, RequestTimeout,
  RouteUndeclared, RouteUnguarded, RuleInvalid, RuleMissing, Unauthenticated
} from './errors.js'
export type { EventSink, SecurityEvent, SecurityEventType } from './event.js'
export {
  createGuard, type Decide, type Guard, type GuardOptions, type OperationSource, type Refusals
} from './guard.js'
export { answerWithProblems, declareRule, useGuard } from './http.js'
export {
  defineError, MartyError, rpcCodeOf, type ErrorDefinition, type ErrorDetails, type MartyErrorConstructor
} from './marty-error.js'
export { append, Multimap } from './multimap.js'
export type { Check, CheckRun, FailureRun, GuardedOperation, Operation, Stage, Verdict } from './operation.js'
export type { ItemSpec, OptionSpec, OptionTable } from './option-table.js'
export { ANONYMOUS, type AuthenticationMethod, type Principal, type PrincipalClaims } from './principal.js'
export { KeyedSingleFlight, SingleFlight } from './single-flight.js'
export { problemErrorHandler, problemNotFoundHandler, toProblem, type Problem } from './problem.js'
export { logRefusal, type Refusal } from './refusal-log.js'
export type { PermissionName, SecurityRule } from './rule.js'
export { createSampler, type Omitted, type Sampler, type SamplerOptions } from './sampler.js'
export {
  answerClientErrors, problemServerOptions, setStandardHeaders, type StandardHeaders
} from './unrouted-answers.js'
export type { StartProblem } from './start-problems.js'
