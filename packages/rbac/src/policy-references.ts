import type { Path } from '@marty/config'
import type { ResourceDefinition } from './definition.js'
import { didYouMean } from './did-you-mean.js'
import { parsePermission, speaksOf, type PermissionParts } from './permission.js'
import type { EntryDocument, PolicyDocument } from './policy-schema.js'

export type ReportProblem = (path: Path, message: string, part?: 'key' | 'value') => void

/** Every name of a policy that refers to something: it must exist. */
export function checkReferences (document: PolicyDocument, resources: ReadonlyMap<string, ResourceDefinition>, permissions: readonly string[], report: ReportProblem): void {
  const checkNames = (names: readonly string[], known: object, what: string, path: Path): void => {
    for (const [index, name] of names.entries()) {
      if (!Object.hasOwn(known, name)) report([...path, index], `there is no ${what} "${name}"${didYouMean(name, Object.keys(known))}`)
    }
  }
  const checkRoles = (names: readonly string[] | undefined, path: Path): void => { checkNames(names ?? [], document.roles, 'role', path) }
  const mistakeIn = patternChecker(resources, permissions)
  const checkPattern = (pattern: string, path: Path): void => {
    const mistake = mistakeIn(pattern)
    if (mistake !== null) report(path, mistake)
  }
  const checkPatterns = (patterns: readonly string[], path: Path): void => { patterns.forEach((pattern, index) => { checkPattern(pattern, [...path, index]) }) }
  const checkEntries = (entries: readonly EntryDocument[] | undefined, path: Path): void => {
    entries?.forEach((entry, index) => {
      if (typeof entry === 'string') checkPattern(entry, [...path, index])
      else checkPattern(entry.permission, [...path, index, 'permission'])
    })
  }

  for (const [name, role] of Object.entries(document.roles)) {
    checkRoles(role.inherits, ['roles', name, 'inherits'])
    checkEntries(role.allow, ['roles', name, 'allow'])
    checkEntries(role.deny, ['roles', name, 'deny'])
  }
  for (const [name, { deny = [], require = [] }] of Object.entries(document.environments)) {
    for (const [index, { roles, permissions }] of deny.entries()) {
      checkRoles(roles, ['environments', name, 'deny', index, 'roles'])
      checkPatterns(permissions, ['environments', name, 'deny', index, 'permissions'])
    }
    for (const [index, { roles, permissions, when }] of require.entries()) {
      const path = ['environments', name, 'require', index]
      checkRoles(roles, [...path, 'roles'])
      checkPatterns(permissions, [...path, 'permissions'])
      if (roles === undefined && when === undefined) report(path, 'this requires nothing; add roles or when')
    }
  }
  for (const [name, { may = [] }] of Object.entries(document.services ?? {})) {
    for (const [index, { call, permissions }] of may.entries()) {
      const path = ['services', name, 'may', index]
      if (!Object.hasOwn(document.services!, call)) report([...path, 'call'], `there is no service "${call}"${didYouMean(call, Object.keys(document.services!))}`)
      checkPatterns(permissions, [...path, 'permissions'])
    }
  }
  for (const [index, { roles }] of (document.separation ?? []).entries()) checkRoles(roles, ['separation', index, 'roles'])
}

/** Tells what is wrong with a pattern of well-formed segments; null when it speaks of something. */
function patternChecker (resources: ReadonlyMap<string, ResourceDefinition>, permissions: readonly string[]): (pattern: string) => string | null {
  const parsed = permissions.map(permission => parsePermission(permission)!)
  // A policy names few patterns, often.
  const known = new Map<string, string | null>(permissions.map(permission => [permission, null]))
  return pattern => {
    let mistake = known.get(pattern)
    if (mistake === undefined) {
      const parts = parsePermission(pattern)!
      mistake = parsed.some(permission => speaksOf(parts, permission, 'allow')) ? null : patternMistake(parts, resources)
      known.set(pattern, mistake)
    }
    return mistake
  }
}

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

/** Names and aliases of environments, to the environment's name. */
export function readAliases (document: PolicyDocument, report: ReportProblem): ReadonlyMap<string, string> {
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
