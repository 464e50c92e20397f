import { checkSchema, parseYaml, sortProblems, type Path, type SourceProblem } from '@marty/config'
import { Type, type TSchema } from 'typebox'
import { parsePermission, speaksOf } from './permission.js'
import type { Policy } from './policy.js'
import { didYouMean } from './did-you-mean.js'

/** What came out of a policy's tests. */
export interface PolicyTestReport {
  /** Decisions that were as expected. */
  readonly passed: number
  /** Decisions that were not, each where the expectation is written. */
  readonly failures: readonly SourceProblem[]
  /** Mistakes of the test file itself. When there are any, nothing was tested. */
  readonly problems: readonly SourceProblem[]
}

const Names = (description: string): TSchema => Type.Array(Type.String(), { description, minItems: 1, uniqueItems: true })
const closed = { additionalProperties: false } as const

const testSchema = Type.Object({
  version: Type.Literal(1),
  principals: Type.Record(Type.String(), Type.Object({ roles: Type.Array(Type.String(), { description: 'Directly assigned roles' }) }, closed), { minProperties: 1 }),
  tests: Type.Array(Type.Object({
    name: Type.String(),
    principals: Names('Who asks'),
    environments: Type.Optional(Names('Where; every environment when left out')),
    allow: Type.Optional(Names('Patterns of permissions that must be allowed')),
    deny: Type.Optional(Names('Patterns of permissions that must be denied')),
    only: Type.Optional(Names('Patterns of the permissions that must be allowed while every other one is denied'))
  }, closed), { minItems: 1 })
}, closed)

interface TestDocument {
  readonly principals: Readonly<Record<string, { readonly roles: readonly string[] }>>
  readonly tests: ReadonlyArray<{
    readonly name: string
    readonly principals: readonly string[]
    readonly environments?: readonly string[]
    readonly allow?: readonly string[]
    readonly deny?: readonly string[]
    readonly only?: readonly string[]
  }>
}

/** Asks a policy every question of a test file: principals by permissions by environments. Throws nothing. */
export function testPolicy (policy: Policy, text: string, file: string): PolicyTestReport {
  const parsed = parseYaml(text, file)
  if (parsed.source === null) return { passed: 0, failures: [], problems: parsed.problems }
  const { source } = parsed
  const problems: SourceProblem[] = []
  const at = (path: Path, message: string, part: 'key' | 'value' = 'value'): SourceProblem => ({ source: file, ...source.positionOf(path, part), message })
  checkSchema(source.value, testSchema, (path, part, message) => { problems.push(at(path, message, part)) })
  if (problems.length === 0) problems.push(...unknownNames(source.value as TestDocument, policy).map(({ path, message }) => at(path, message)))
  if (problems.length > 0) return { passed: 0, failures: [], problems: sortProblems(problems) }

  const { principals, tests } = source.value as TestDocument
  const failures: SourceProblem[] = []
  let passed = 0
  for (const [index, test] of tests.entries()) {
    const expectations = expectationsOf(test, policy, ['tests', index])
    for (const principal of test.principals) {
      for (const environment of test.environments ?? policy.environments) {
        for (const { permission, allowed, path } of expectations) {
          const { roles } = principals[principal]!
          if (policy.decide(roles, permission, environment) === allowed) {
            passed++
            continue
          }
          const { reason, rule } = policy.explain(roles, permission, environment)
          failures.push(at(path, `${test.name}: ${principal} must ${allowed ? '' : 'not '}be allowed ${permission} in ${environment}, but ` +
            reason + (rule === undefined ? '' : ` (${rule.where})`)))
        }
      }
    }
  }
  return { passed, failures: sortProblems(failures), problems: [] }
}

interface Expectation {
  readonly permission: string
  readonly allowed: boolean
  readonly path: Path
}

function expectationsOf (test: TestDocument['tests'][number], policy: Policy, path: Path): Expectation[] {
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

/** The permissions a pattern names. A deny of a pattern asks about exactly these, not about what contains them. */
function matching (pattern: string, policy: Policy): readonly string[] {
  const parts = parsePermission(pattern)
  if (policy.permissions.includes(pattern)) return [pattern]
  return parts === null ? [] : policy.permissions.filter(permission => speaksOf(parts, parsePermission(permission)!, 'allow'))
}

function unknownNames ({ principals, tests }: TestDocument, policy: Policy): Array<{ path: Path, message: string }> {
  const found: Array<{ path: Path, message: string }> = []
  const check = (names: readonly string[] | undefined, path: Path, what: string, known: readonly string[], exists: (name: string) => boolean): void => {
    for (const [index, name] of (names ?? []).entries()) {
      if (!exists(name)) found.push({ path: [...path, index], message: `there is no ${what} "${name}"${didYouMean(name, known)}` })
    }
  }
  const roles = policy.roles.map(({ name }) => name)
  for (const [name, principal] of Object.entries(principals)) check(principal.roles, ['principals', name, 'roles'], 'role', roles, role => roles.includes(role))
  for (const [index, test] of tests.entries()) {
    const path = ['tests', index]
    check(test.principals, [...path, 'principals'], 'principal', Object.keys(principals), name => Object.hasOwn(principals, name))
    check(test.environments, [...path, 'environments'], 'environment', [...policy.environmentNames.keys()], name => policy.environmentNames.has(name))
    for (const key of ['allow', 'deny', 'only'] as const) {
      check(test[key], [...path, key], 'permission', policy.permissions, pattern => matching(pattern, policy).length > 0)
    }
    if (test.allow === undefined && test.deny === undefined && test.only === undefined) found.push({ path, message: `the test "${test.name}" expects nothing; add allow, deny or only` })
  }
  return found
}
