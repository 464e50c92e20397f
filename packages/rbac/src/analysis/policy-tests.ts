import { checkSchema, parseYaml, sortProblems, type Path, type SourceProblem } from '@marty/config'
import type { Principal } from '@marty/core'
import { Type, type TSchema } from 'typebox'
import type { Attributes } from '../conditions/evaluate.js'
import { didYouMean } from '../did-you-mean.js'
import { spokenRules } from '../engine/explain.js'
import { parsePermission, speaksOf } from '../model/permission.js'
import { partsOf, type Policy } from '../engine/policy.js'
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

const Names = (description: string): TSchema =>
  Type.Array(Type.String(), { description, minItems: 1, uniqueItems: true })
const closed = { additionalProperties: false } as const
const Anything = Type.Record(Type.String(), Type.Unknown())

const testSchema = Type.Object(
  {
    version: Type.Literal(1),
    principals: Type.Record(
      Type.String(),
      Type.Object(
        {
          roles: Type.Array(Type.String(), { description: 'Directly assigned roles' }),
          kind: Type.Optional(Type.Enum(['user', 'service', 'key', 'anonymous'])),
          id: Type.Optional(Type.String()),
          scopes: Type.Optional(Type.Array(Type.String())),
          claims: Type.Optional(Anything)
        },
        closed
      ),
      { minProperties: 1 }
    ),
    tests: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          principals: Names('Who asks'),
          environments: Type.Optional(Names('Where; every environment when left out')),
          service: Type.Optional(Type.String({ description: 'Which service is asked' })),
          resource: Type.Optional(Anything),
          time: Type.Optional(
            Type.String({
              pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d(:\\d\\d)?(Z|[+-]\\d\\d:\\d\\d)$',
              expected: 'a moment with its offset, such as "2025-01-31T08:00Z"'
            })
          ),
          allow: Type.Optional(Names('Patterns of permissions that must be allowed')),
          deny: Type.Optional(Names('Patterns of permissions that must be denied')),
          only: Type.Optional(Names('Patterns of the permissions that must be allowed while every other one is denied'))
        },
        closed
      ),
      { minItems: 1 }
    )
  },
  closed
)

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
  const refuse = (problems: readonly SourceProblem[]): PolicyTestReport => ({
    passed: 0,
    failures: [],
    uncovered: [],
    problems: sortProblems(problems)
  })
  const cutOff = missingLineBreak(text, file)
  if (cutOff !== null) return refuse([cutOff])
  const parsed = parseYaml(text, file)
  if (parsed.source === null) return refuse(parsed.problems)
  const { source } = parsed
  const problems: SourceProblem[] = []
  const at = (path: Path, message: string, part: 'key' | 'value' = 'value'): SourceProblem => ({
    source: file,
    ...source.positionOf(path, part),
    message
  })
  checkSchema(source.value, testSchema, (path, part, message) => { problems.push(at(path, message, part)) })
  if (problems.length === 0) {
    problems.push(...unknownNames(source.value as TestDocument, policy).map(({ path, message }) => at(path, message)))
  }
  if (problems.length > 0) return refuse(problems)

  const failures: SourceProblem[] = []
  const coverage = createCoverage(policy)
  let passed = 0
  for (const { test, name, principal, permission, environment, attributes, allowed, path } of decisionsOf(
    source.value as TestDocument,
    policy
  )) {
    coverage.note(principal.roles, permission, environment, attributes)
    if (policy.decide(principal.roles, permission, environment, attributes) === allowed) {
      passed++
      continue
    }
    const { reason, rule } = policy.explain(principal.roles, permission, environment, attributes)
    failures.push(
      at(
        path,
        `${test}: ${name} must ${allowed ? '' : 'not '}be allowed ${permission} in ${environment}, but ` +
          reason +
          (rule === undefined ? '' : ` (${rule.where})`)
      )
    )
  }
  return { passed, failures: sortProblems(failures), uncovered: coverage.uncovered(), problems: [] }
}

/** A decision that a test expects. */
export interface StatedDecision {
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
export function statedDecisions (policy: Policy, text: string, file: string): Iterable<StatedDecision> {
  return decisionsOf(parseYaml(text, file).source!.value as TestDocument, policy)
}

function * decisionsOf ({ principals, tests }: TestDocument, policy: Policy): Generator<StatedDecision> {
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
interface Coverage {
  note (roles: readonly string[], permission: string, environment: string, attributes: Attributes): void
  uncovered (): SourceProblem[]
}

function createCoverage (policy: Policy): Coverage {
  const { definition } = partsOf(policy)
  // One place in the file may expand to several rules, such as a list of roles combined with a list of
  // permissions.
  const open = new Map(definition.rules.map(({ path }) => [path.join('\n'), path]))
  return {
    note (roles, permission, name, attributes) {
      if (open.size === 0) return
      const environment = definition.aliases.get(name)!
      const question = { roles, environment, attributes, clock: Date.now }
      for (const { rule, applies } of spokenRules(definition, permission, question)) {
        if (applies) open.delete(rule.path.join('\n'))
      }
    },
    uncovered: () => sortProblems([...open.values()].map(path => ({ source: policy.file, ...definition.positionOf(path), message: 'no test sees this rule apply' })))
  }
}

interface Expectation {
  readonly permission: string
  readonly allowed: boolean
  readonly path: Path
}

function expectationsOf (test: Test, policy: Policy, path: Path): Expectation[] {
  const expand = (key: 'allow' | 'deny' | 'only', allowed: boolean): Expectation[] => (test[key] ?? []).flatMap((pattern, index) =>
    matching(pattern, policy).map(permission => ({ permission, allowed, path: [...path, key, index] })))
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
function matching (pattern: string, policy: Policy): readonly string[] {
  const parts = parsePermission(pattern)
  if (policy.permissions.includes(pattern)) return [pattern]
  return parts === null ? [] : policy.permissions.filter(permission => speaksOf(parts, parsePermission(permission)!, 'allow'))
}

function unknownNames ({ principals, tests }: TestDocument, policy: Policy): Array<{ path: Path, message: string }> {
  const found: Array<{ path: Path, message: string }> = []
  const check = (
    names: readonly string[] | undefined,
    path: Path,
    what: string,
    known: readonly string[],
    exists: (name: string) => boolean
  ): void => {
    for (const [index, name] of (names ?? []).entries()) {
      if (!exists(name)) {
        found.push({
          path: [...path, index],
          message: `there is no ${what} "${name}"${didYouMean(name, known)}`
        })
      }
    }
  }
  const roles = policy.roles.map(({ name }) => name)
  for (const [name, principal] of Object.entries(principals)) check(principal.roles, ['principals', name, 'roles'], 'role', roles, role => roles.includes(role))
  for (const [index, test] of tests.entries()) {
    const path = ['tests', index]
    check(test.principals, [...path, 'principals'], 'principal', Object.keys(principals), name => Object.hasOwn(principals, name))
    check(test.environments, [...path, 'environments'], 'environment', [...policy.environmentNames.keys()], name => policy.environmentNames.has(name))
    check(test.service === undefined ? [] : [test.service], [...path, 'service'], 'service', policy.services, name => policy.services.includes(name))
    for (const key of ['allow', 'deny', 'only'] as const) {
      check(test[key], [...path, key], 'permission', policy.permissions, pattern => matching(pattern, policy).length > 0)
    }
    if (test.time !== undefined && Number.isNaN(Date.parse(test.time))) found.push({ path: [...path, 'time'], message: `there is no moment ${test.time}` })
    if (test.allow === undefined && test.deny === undefined && test.only === undefined) found.push({ path, message: `the test "${test.name}" expects nothing; add allow, deny or only` })
  }
  return found
}
