import { checkSchema, parseYaml, sortProblems, type Path, type SourceProblem } from '@marty/config'
import type { PolicyDefinition, ResourceDefinition, RoleDefinition } from '../model/definition.js'
import { formatPermission } from '../model/permission.js'
import { checkReferences, readAliases, type ReportProblem } from './references.js'
import { isPolicyDocument, policySchema, type PolicyDocument, type ResourceDocument } from './schema.js'
import { ConditionReader } from './conditions.js'
import { readRules, separationProblems } from './rules.js'
import { inheritanceProblems, roleClosures } from '../model/role-graph.js'
import { positionInScalar } from './scalar-position.js'

export type ReadPolicy = { readonly definition: PolicyDefinition, readonly problems: readonly [] } |
  { readonly definition: null, readonly problems: readonly SourceProblem[] }

/** The maximum file size. Larger files are refused before they are parsed. */
export const MAX_FILE_BYTES = 5_000_000

/** Bounds of the compiled table: even a short file can name very many permissions. */
const MAX_PERMISSIONS = 50_000
const MAX_ROLES = 20_000

/** Parses a policy. Reports all mistakes together, each with its position. Throws nothing. */
export function readPolicy (text: string, file: string): ReadPolicy {
  const sizeBytes = Buffer.byteLength(text)
  if (sizeBytes > MAX_FILE_BYTES) return faulty([tooLarge(file, sizeBytes)])
  const cutOff = missingLineBreak(text, file)
  if (cutOff !== null) return faulty([cutOff])
  const parsed = parseYaml(text, file)
  if (parsed.source === null) return faulty(parsed.problems.map(problem => adviseQuotes(problem, text)))
  const { source } = parsed
  const problems: SourceProblem[] = []
  const report: ReportProblem = (path, message, part = 'value') => {
    problems.push({ source: file, ...source.positionOf(path, part), message })
  }
  // The check that finds every mistake is slow, and most files have none: run the fast check first.
  if (!isPolicyDocument(source.value)) {
    checkSchema(source.value, policySchema, (path, part, message) => {
      report(path, message, part)
    })
  }
  // Names can be checked only in a file whose structure is valid.
  if (problems.length > 0) {
    return faulty(
      problems.map(problem => (/^unknown key/.test(problem.message) ? adviseQuotes(problem, text) : problem))
    )
  }

  const document = source.value as PolicyDocument
  const resources = new Map(
    Object.entries(document.resources).map(([name, resource]) => [name, readResource(resource)])
  )
  const roles = new Map(
    Object.entries(document.roles).map(([name, { description = null, inherits = [] }]): [string, RoleDefinition] => [
      name,
      { description, inherits }
    ])
  )
  checkSize(resources, roles, report)
  if (problems.length > 0) return faulty(problems)

  const permissions = permissionsOf(resources)
  checkReferences(document, resources, permissions, report, (path, part) => source.positionOf(path, part).line)
  const aliases = readAliases(document, report)
  const tangles = inheritanceProblems(roles)
  for (const { path, message } of tangles) report(path, message)
  const closures = roleClosures(
    [...roles.keys()],
    [...roles].flatMap(([child, { inherits }]) => inherits.map(parent => [child, parent] as const))
  )
  if (tangles.length === 0) {
    for (const { path, message } of separationProblems(document, closures)) report(path, message)
  }
  const conditions = new ConditionReader(
    { roles: [...roles.keys()], aliases, resources },
    (path, value, offset, message) => {
      problems.push({ source: file, ...positionInScalar(text, source.positionOf(path), value, offset), message })
    }
  )
  const { rules, separations, requirements } = readRules(document, conditions, closures)
  if (problems.length > 0) return faulty(problems)

  return {
    definition: Object.freeze({
      file,
      resources,
      roles,
      environments: Object.freeze(Object.keys(document.environments)),
      aliases,
      services: Object.freeze(Object.keys(document.services ?? {})),
      separations,
      requirements,
      conditions: Object.freeze(conditions.conditions),
      rules,
      permissions,
      positionOf: (path: Path, part?: 'key' | 'value') => source.positionOf(path, part)
    }),
    problems: []
  }
}

/**
 * A policy that ends in the middle of a line may have been cut off while it was written, and the rest of
 * it may grant more than the complete policy. Only this mistake is reported, because any others would
 * follow from it.
 */
export function missingLineBreak (text: string, file: string): SourceProblem | null {
  // An empty file is reported as another mistake. JSON, as programs write it, is invalid before its last brace.
  if (text.trim() === '' || /[\r\n]$/.test(text) || (/^\s*\{/.test(text) && text.endsWith('}'))) return null
  const lines = text.split(/\r\n|\r|\n/)
  return {
    source: file,
    line: lines.length,
    column: lines.at(-1)!.length + 1,
    message:
      'the text ends without a line break, as if it was cut off while it was written; write it whole, with a line ' +
        'break at its end'
  }
}

export function tooLarge (file: string, sizeBytes: number): SourceProblem {
  return {
    source: file,
    line: 0,
    column: 0,
    message: `is ${sizeBytes} bytes long; a policy has at most ${MAX_FILE_BYTES}`
  }
}

/** The maximum number of mistakes to report: a file of garbage has one on every line. */
const MAX_PROBLEMS = 100

/** The first problems of a long list, and a note of how many more there are. */
export function firstProblems (problems: readonly SourceProblem[], file: string): readonly SourceProblem[] {
  const more = problems.length - MAX_PROBLEMS
  return more <= 0
    ? problems
    : [...problems.slice(0, MAX_PROBLEMS), { source: file, line: 0, column: 0, message: `has ${more} more problems` }]
}

function faulty (problems: readonly SourceProblem[]): ReadPolicy {
  return { definition: null, problems: firstProblems(sortProblems(problems), problems[0]!.source) }
}

/** A condition without quotes that holds a character with a meaning in YAML. */
const OPEN_CONDITION = /\bwhen: *[^\s'"].*?(?:[[\]{},]|: | #)/

function adviseQuotes (problem: SourceProblem, text: string): SourceProblem {
  const line = text.split(/\r\n|\r|\n/)[problem.line - 1] ?? ''
  const isMeant = OPEN_CONDITION.test(line.replace(/[ ,}]+$/, ''))
  return isMeant
    ? {
        ...problem,
        message: `${problem.message}; put the condition in quotes, as when: '...', because [ ] { } , # and : mean ` +
          'something to YAML'
      }
    : problem
}

function readResource ({ description, actions, scopes = [], attributes = {} }: ResourceDocument): ResourceDefinition {
  return {
    description: description ?? null,
    actions,
    scopes,
    attributes: new Map(
      Object.entries(attributes).map(([name, type]) => [
        name,
        typeof type === 'string' ? { type } : { type: 'text', choices: type }
      ])
    )
  }
}

function checkSize (
  resources: ReadonlyMap<string, ResourceDefinition>,
  roles: ReadonlyMap<string, RoleDefinition>,
  report: ReportProblem
): void {
  const permissions = [...resources.values()].reduce(
    (sum, { actions, scopes }) => sum + actions.length * (scopes.length + 1),
    0
  )
  if (permissions > MAX_PERMISSIONS) {
    report(
      ['resources'],
      `the resources have ${permissions} permissions; a policy has at most ${MAX_PERMISSIONS}`,
      'key'
    )
  }
  if (roles.size > MAX_ROLES) {
    report(['roles'], `there are ${roles.size} roles; a policy has at most ${MAX_ROLES}`, 'key')
  }
}

function permissionsOf (resources: ReadonlyMap<string, ResourceDefinition>): readonly string[] {
  return Object.freeze([...resources].flatMap(([resource, { actions, scopes }]) =>
    ['*', ...scopes].flatMap(scope => actions.map(action => formatPermission({ resource, scope, action })))))
}
