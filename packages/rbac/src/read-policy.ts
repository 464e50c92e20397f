import { checkSchema, parseYaml, sortProblems, type Path, type SourceProblem } from '@marty/config'
import { closest } from '@marty/core'
import type { PolicyDefinition, ResourceDefinition, RoleDefinition, Rule } from './definition.js'
import { formatPermission, parsePermission, speaksOf, type Effect, type PermissionParts } from './permission.js'
import { policySchema, type PolicyDocument } from './policy-schema.js'
import { inheritanceProblems } from './role-graph.js'

export type ReadPolicy = { readonly definition: PolicyDefinition, readonly problems: readonly [] } |
  { readonly definition: null, readonly problems: readonly SourceProblem[] }

/** Reads a policy file's text. Every mistake comes back at once, with its position. Throws nothing. */
export function readPolicy (text: string, file: string): ReadPolicy {
  const parsed = parseYaml(text, file)
  if (parsed.source === null) return { definition: null, problems: parsed.problems }
  const { source } = parsed
  const problems: SourceProblem[] = []
  const report: ReportProblem = (path, message, part = 'value') => { problems.push({ source: file, ...source.positionOf(path, part), message }) }
  checkSchema(source.value, policySchema, (path, part, message) => { report(path, message, part) })
  // Names can only be compared in a file whose shape is right.
  if (problems.length > 0) return { definition: null, problems: sortProblems(problems) }

  const document = source.value as PolicyDocument
  const resources = new Map(Object.entries(document.resources).map(([name, { description = null, actions, scopes = [] }]): [string, ResourceDefinition] =>
    [name, { description, actions, scopes }]))
  const roles = new Map(Object.entries(document.roles).map(([name, { description = null, inherits = [] }]): [string, RoleDefinition] =>
    [name, { description, inherits }]))
  const permissions = permissionsOf(resources)
  checkReferences(document, resources, permissions, report)
  const aliases = readAliases(document, report)
  for (const { path, message } of inheritanceProblems(roles)) report(path, message)
  if (problems.length > 0) return { definition: null, problems: sortProblems(problems) }

  return {
    definition: Object.freeze({
      file,
      resources,
      roles,
      environments: Object.freeze(Object.keys(document.environments)),
      aliases,
      rules: Object.freeze(readRules(document)),
      permissions,
      positionOf: (path: Path) => source.positionOf(path)
    }),
    problems: []
  }
}

type ReportProblem = (path: Path, message: string, part?: 'key' | 'value') => void

function permissionsOf (resources: ReadonlyMap<string, ResourceDefinition>): readonly string[] {
  return Object.freeze([...resources].flatMap(([resource, { actions, scopes }]) =>
    ['*', ...scopes].flatMap(scope => actions.map(action => formatPermission({ resource, scope, action })))))
}

function checkReferences (document: PolicyDocument, resources: ReadonlyMap<string, ResourceDefinition>, permissions: readonly string[], report: ReportProblem): void {
  const checkRoles = (names: readonly string[], path: Path): void => {
    for (const [index, name] of names.entries()) {
      if (!Object.hasOwn(document.roles, name)) report([...path, index], `there is no role "${name}"${didYouMean(name, Object.keys(document.roles))}`)
    }
  }
  const exist = new Set(permissions)
  const parsed = permissions.map(permission => parsePermission(permission)!)
  const checkPatterns = (patterns: readonly string[], path: Path): void => {
    for (const [index, pattern] of patterns.entries()) {
      const parts = parsePermission(pattern)!
      if (exist.has(formatPermission(parts)) || parsed.some(permission => speaksOf(parts, permission, 'allow'))) continue
      report([...path, index], patternMistake(parts, resources))
    }
  }
  for (const [name, role] of Object.entries(document.roles)) {
    checkRoles(role.inherits ?? [], ['roles', name, 'inherits'])
    checkPatterns(role.allow ?? [], ['roles', name, 'allow'])
    checkPatterns(role.deny ?? [], ['roles', name, 'deny'])
  }
  for (const [name, environment] of Object.entries(document.environments)) {
    for (const [index, deny] of (environment.deny ?? []).entries()) {
      const path = ['environments', name, 'deny', index]
      checkRoles(deny.roles, [...path, 'roles'])
      checkPatterns(deny.permissions, [...path, 'permissions'])
    }
  }
}

/** Why a pattern of well-formed segments speaks of nothing. */
function patternMistake (parts: PermissionParts, resources: ReadonlyMap<string, ResourceDefinition>): string {
  const candidates = parts.resource === '*' ? [...resources.values()] : [resources.get(parts.resource)].filter(found => found !== undefined)
  if (candidates.length === 0) return `there is no resource "${parts.resource}"${didYouMean(parts.resource, resources.keys())}`
  const owner = parts.resource === '*' ? 'no resource has' : `"${parts.resource}" does not have`
  const actions = candidates.flatMap(candidate => candidate.actions)
  if (parts.action !== '*' && !actions.includes(parts.action)) return `${owner} the action "${parts.action}"${didYouMean(parts.action, actions)}`
  const scopes = candidates.flatMap(candidate => candidate.scopes)
  if (!scopes.includes(parts.scope)) return `${owner} the scope "${parts.scope}"${didYouMean(parts.scope, scopes)}`
  return `no resource has both the scope "${parts.scope}" and the action "${parts.action}"`
}

function readAliases (document: PolicyDocument, report: ReportProblem): ReadonlyMap<string, string> {
  const names = Object.keys(document.environments)
  const aliases = new Map(names.map(name => [name, name]))
  for (const [name, { aliases: others = [] }] of Object.entries(document.environments)) {
    for (const [index, alias] of others.entries()) {
      const taken = aliases.get(alias)
      if (taken !== undefined) report(['environments', name, 'aliases', index], `"${alias}" already names the environment "${taken}"`)
      else aliases.set(alias, name)
    }
  }
  return aliases
}

function readRules (document: PolicyDocument): Rule[] {
  const rules = new Map<string, Rule>()
  const add = (role: string, environment: string, effect: Effect, pattern: string, reason: string | null, path: Path): void => {
    const rule: Rule = { role, environment, ...parsePermission(pattern)!, effect, reason, path }
    const key = ruleKey(rule)
    if (!rules.has(key)) rules.set(key, rule)
  }
  for (const [role, { allow = [], deny = [] }] of Object.entries(document.roles)) {
    for (const [index, pattern] of allow.entries()) add(role, '*', 'allow', pattern, null, ['roles', role, 'allow', index])
    for (const [index, pattern] of deny.entries()) add(role, '*', 'deny', pattern, null, ['roles', role, 'deny', index])
  }
  for (const [environment, { deny = [] }] of Object.entries(document.environments)) {
    for (const [index, { roles, permissions, reason = null }] of deny.entries()) {
      for (const role of roles) {
        for (const [at, pattern] of permissions.entries()) {
          add(role, environment, 'deny', pattern, reason, ['environments', environment, 'deny', index, 'permissions', at])
        }
      }
    }
  }
  return [...rules.values()]
}

function ruleKey ({ role, environment, resource, scope, action, effect }: Rule): string {
  return [role, environment, resource, scope, action, effect].join(' ')
}

export function didYouMean (word: string, candidates: Iterable<string>): string {
  const near = closest(word, candidates)
  return near === null ? '' : `; did you mean "${near}"?`
}
