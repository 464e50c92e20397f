import { checkSchema, parseYaml, sortProblems, type Path, type SourceProblem } from '@marty/config'
import { didYouMean, type Principal } from '@marty/core'
import type { Attributes } from '../conditions/evaluate.js'
import { matchingRules } from '../engine/explain.js'
import { parsePermission, ruleMatches } from '../model/permission.js'
import type { PolicyDefinition } from '../model/definition.js'
import { partsOf, type Policy } from '../engine/policy.js'
import { list, object, optional, record, text, type JsonSchema } from '../parse/json-schema.js'
import { missingLineBreak } from '../parse/policy.js'

/** The results of running the tests of a policy. */
export interface PolicyTestReport {
  /** The number of decisions that were as expected. */
  readonly passed: number
  /** Decisions that were not as expected, each with the position of the expectation in the test file. */
  readonly failures: readonly SourceProblem[]
  /**
   * Rules of the policy that applied to no decision, each with
   * its position: no test would fail if they were removed.
   */
  readonly uncovered: readonly SourceProblem[]
  /** Mistakes in the test file itself. If there are any, no test was run. */
  readonly problems: readonly SourceProblem[]
}

const Names = (description: string): JsonSchema => list(text(), { description, minItems: 1, uniqueItems: true })
const Anything = record('^.*$', {})

const testSchema = object({
  version: { type: 'number', const: 1 },
  principals: record(
    '^.*$',
    object({
      roles: list(text(), { description: 'Directly assigned roles' }),
      kind: optional({ enum: ['user', 'service', 'key', 'anonymous'] }),
      id: optional(text()),
      scopes: optional(list(text())),
      claims: optional(Anything)
    }),
    { minProperties: 1 }
  ),
  tests: list(
    object({
      name: text(),
      principals: Names('The callers'),
      environments: optional(Names('The environments; all of them when left out')),
      service: optional(text({ description: 'The service that is called' })),
      resource: optional(Anything),
      time: optional(
        text({
          pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d(:\\d\\d)?(Z|[+-]\\d\\d:\\d\\d)$',
          expected: 'a date and time with an offset, such as "2025-01-31T08:00Z"'
        })
      ),
      allow: optional(Names('Patterns of permissions that must be allowed')),
      deny: optional(Names('Patterns of permissions that must be denied')),
      only: optional(Names('Patterns of the permissions that must be allowed while every other one is denied'))
    }),
    { minItems: 1 }
  )
})

type PrincipalDocument = Partial<Omit<Principal, 'roles'>> & Pick<Principal, 'roles'>

interface TestDocument {
  readonly principals: Readonly<Record<string, PrincipalDocument>>
  readonly tests: readonly Test[]
}

interface Test {
  readonly name: string
  readonly principals: readonly string[]
  readonly environments?: readonly string[]
  readonly service?: string
  readonly resource?: Readonly<Record<string, unknown>>
  readonly time?: string
  readonly allow?: readonly string[]
  readonly deny?: readonly string[]
  readonly only?: readonly string[]
}

/**
 * Runs a test file against a policy: every combination of
 * principals, permissions and environments. Throws nothing.
 */
export function testPolicy (policy: Policy, text: string, file: string): PolicyTestReport {
  const notRun = (problems: readonly SourceProblem[]): PolicyTestReport => ({
    passed: 0,
    failures: [],
    uncovered: [],
    problems: sortProblems(problems)
  })
  const cutOff = missingLineBreak(text, file)
  if (cutOff !== null) return notRun([cutOff])
  const parsed = parseYaml(text, file)
  if (parsed.source === null) return notRun(parsed.problems)
  const { source } = parsed
  const problems: SourceProblem[] = []
  const at = (path: Path, message: string, part: 'key' | 'value' = 'value'): SourceProblem => ({
    source: file,
    ...source.positionOf(path, part),
    message
  })
  checkSchema(source.value, testSchema, (path, part, message) => { problems.push(at(path, message, part)) })
  if (problems.length === 0) {
    const mistakes = mistakesIn(source.value as TestDocument, policy)
    problems.push(...mistakes.map(({ path, message }) => at(path, message)))
  }
  if (problems.length > 0) return notRun(problems)

  const failures: SourceProblem[] = []
  const coverage = new Coverage(policy)
  let passed = 0
  for (const { test, name, principal, permission, environment, attributes, allowed, path } of decisionsOf(
    source.value as TestDocument,
    policy
  )) {
    coverage.add(principal.roles, permission, environment, attributes)
    if (policy.decide(principal.roles, permission, environment, attributes) === allowed) {
      passed++
      continue
    }
    const { reason, rule } = policy.explain(principal.roles, permission, environment, attributes)
    failures.push(
      at(
        path,
        `${test}: ${name} must ${allowed ? '' : 'not '}be allowed ${permission} in ${environment}, but ` +
          `${reason}${rule === undefined ? '' : ` (${rule.where})`}`
      )
    )
  }
  return { passed, failures: sortProblems(failures), uncovered: coverage.uncovered(), problems: [] }
}

/** A decision that a test expects. */
export interface ExpectedDecision {
  /** The name of the test. */
  readonly test: string
  /** The name of the principal. */
  readonly name: string
  readonly principal: PrincipalDocument
  readonly permission: string
  /** The environment as the test names it, which may be an alias. */
  readonly environment: string
  readonly attributes: Attributes
  readonly allowed: boolean
  readonly path: Path
}

/** Every decision that a test file expects. The file must have no mistakes. */
export function expectedDecisions (policy: Policy, text: string, file: string): Iterable<ExpectedDecision> {
  return decisionsOf(parseYaml(text, file).source!.value as TestDocument, policy)
}

function * decisionsOf ({ principals, tests }: TestDocument, policy: Policy): Generator<ExpectedDecision> {
  for (const [index, test] of tests.entries()) {
    const expectations = expectationsOf(test, policy, ['tests', index])
    // A test without a time has an unknown time: its result must not depend on the hour it runs at.
    const time = test.time === undefined ? NaN : Date.parse(test.time)
    for (const name of test.principals) {
      const principal = principals[name]!
      const attributes: Attributes = { principal, service: test.service, resource: test.resource, time }
      for (const environment of test.environments ?? policy.environments) {
        for (const expectation of expectations) {
          yield { test: test.name, name, principal, environment, attributes, ...expectation }
        }
      }
    }
  }
}

/** Records the places in the policy whose rules applied to some decision. */
class Coverage {
  readonly #definition: PolicyDefinition
  /**
   * The places of which no rule applied so far. One place in the file may expand to several rules, such as
   * a list of roles combined with a list of permissions.
   */
  readonly #uncovered: Map<string, Path>

  constructor (policy: Policy) {
    this.#definition = partsOf(policy).definition
    this.#uncovered = new Map(this.#definition.rules.map(({ path }) => [path.join('\n'), path]))
  }

  add (roles: readonly string[], permission: string, name: string, attributes: Attributes): void {
    if (this.#uncovered.size === 0) return
    const environment = this.#definition.aliases.get(name)!
    const question = { roles, environment, attributes, clock: Date.now }
    for (const { rule, applies } of matchingRules(this.#definition, permission, question)) {
      if (applies) this.#uncovered.delete(rule.path.join('\n'))
    }
  }

  uncovered (): SourceProblem[] {
    const { file, positionOf } = this.#definition
    const message = 'this rule applies in no test'
    return sortProblems([...this.#uncovered.values()].map(path => ({ source: file, ...positionOf(path), message })))
  }
}

interface Expectation {
  readonly permission: string
  readonly allowed: boolean
  readonly path: Path
}

function expectationsOf (test: Test, policy: Policy, path: Path): Expectation[] {
  const expand = (key: 'allow' | 'deny' | 'only', allowed: boolean): Expectation[] =>
    (test[key] ?? []).flatMap((pattern, index) =>
      matchingPermissions(pattern, policy).map(permission => ({ permission, allowed, path: [...path, key, index] }))
    )
  const only = expand('only', true)
  const named = new Set(only.map(({ permission }) => permission))
  const rest = test.only === undefined ? [] : policy.permissions.filter(permission => !named.has(permission))
  return [
    ...expand('allow', true),
    ...expand('deny', false),
    ...only,
    ...rest.map(permission => ({ permission, allowed: false, path: [...path, 'only'] }))
  ]
}

/**
 * The permissions that a pattern matches. A deny of a pattern
 * checks exactly these, not the resources that contain them.
 */
function matchingPermissions (pattern: string, policy: Policy): readonly string[] {
  if (policy.permissions.includes(pattern)) return [pattern]
  const parts = parsePermission(pattern)
  if (parts === null) return []
  return policy.permissions.filter(permission => ruleMatches(parts, parsePermission(permission)!, 'allow'))
}

interface Mistake {
  readonly path: Path
  readonly message: string
}

/** What the schema cannot check: names, times, and tests that expect nothing. */
function mistakesIn ({ principals, tests }: TestDocument, policy: Policy): readonly Mistake[] {
  const mistakes: Mistake[] = []
  const check = (names: readonly string[], path: Path, kind: string, known: readonly string[]): void => {
    for (const [index, name] of names.entries()) {
      if (known.includes(name)) continue
      mistakes.push({ path: [...path, index], message: `there is no ${kind} "${name}"${didYouMean(name, known)}` })
    }
  }
  const checkPatterns = (patterns: readonly string[], path: Path): void => {
    for (const [index, pattern] of patterns.entries()) {
      if (matchingPermissions(pattern, policy).length > 0) continue
      const message = `there is no permission "${pattern}"${didYouMean(pattern, policy.permissions)}`
      mistakes.push({ path: [...path, index], message })
    }
  }
  const roles = policy.roles.map(({ name }) => name)
  const environments = [...policy.environmentNames.keys()]
  for (const [name, principal] of Object.entries(principals)) {
    check(principal.roles, ['principals', name, 'roles'], 'role', roles)
  }
  for (const [index, test] of tests.entries()) {
    const path = ['tests', index]
    const { allow, deny, only, service, time } = test
    check(test.principals, [...path, 'principals'], 'principal', Object.keys(principals))
    check(test.environments ?? [], [...path, 'environments'], 'environment', environments)
    check(service === undefined ? [] : [service], [...path, 'service'], 'service', policy.services)
    for (const key of ['allow', 'deny', 'only'] as const) checkPatterns(test[key] ?? [], [...path, key])
    if (time !== undefined && Number.isNaN(Date.parse(time))) {
      mistakes.push({ path: [...path, 'time'], message: `there is no time ${time}` })
    }
    if (allow === undefined && deny === undefined && only === undefined) {
      mistakes.push({ path, message: `the test "${test.name}" expects nothing; add allow, deny or only` })
    }
  }
  return mistakes
}
