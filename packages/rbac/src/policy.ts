// `@marty/rbac/policy`: policies for programs without Fastify, such as a job or a check in CI. The plugin exports the
// same.

export { checkPolicy, loadPolicy, type LoadPolicyOptions, type Policy, type RoleSummary } from './engine/policy.js'
export type { Attributes } from './conditions/evaluate.js'
export type { RoleSet } from './engine/role-sets.js'
export type { DecisionState } from './engine/evaluator.js'
export type { ExplainedCondition, ExplainedRule, Explanation } from './engine/explain.js'
export { PermissionUnknown, PolicyInvalid } from './errors.js'
export { policyJsonSchema } from './parse/schema.js'
export { diffPolicies, type IncompleteComparison, type PolicyChange, type PolicyDiff } from './analysis/diff.js'
export { lintPolicy, type PolicyFinding, type PolicyLintRule } from './analysis/lint.js'
export {
  policyMatrix, type MatrixCell, type MatrixEnvironment, type MatrixRow, type PolicyMatrix
} from './analysis/matrix.js'
export { testPolicy, type PolicyTestReport } from './analysis/policy-tests.js'
export { policyTypes } from './analysis/types.js'
