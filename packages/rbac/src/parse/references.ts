import { strangeCharacterHint, type Path } from '@marty/config'
import { closest } from '@marty/core'
import type { ResourceDefinition } from '../model/definition.js'
import { parsePermission, ruleMatches, type PermissionParts } from '../model/permission.js'
import type { EntryDocument, PolicyDocument } from './schema.js'

export type ReportProblem = (path: Path, message: string, part?: 'key' | 'value') => void

/** A name that is used but not defined, and the names that exist in its place. */
interface Missing {
  readonly message: string
  readonly name: string
  /** The names that exist, each with the place where it is declared. */
  readonly declared: ReadonlyMap<string, readonly [Path, 'key' | 'value']>
}

/** Checks that every name a policy refers to exists. */
export function checkReferences (
  document: PolicyDocument,
  resources: ReadonlyMap<string, ResourceDefinition>,
  permissions: readonly string[],
  report: ReportProblem,
  lineOf: (path: Path, part: 'key' | 'value') => number
): void {
  const missing = new MissingNames(report, lineOf)
  const keysOf = (section: object, path: string): Missing['declared'] =>
    new Map(Object.keys(section).map(name => [name, [[path, name], 'key']]))
  const checkNames = (names: readonly string[], known: object, what: string, path: Path): void => {
    for (const [index, name] of names.entries()) {
      if (Object.hasOwn(known, name)) missing.note(`${what} ${name}`)
      else {
        missing.add(
          `${what} ${name}`,
          [...path, index],
          { message: `there is no ${what} "${name}"`, name, declared: keysOf(known, `${what}s`) },
          `${what} `
        )
      }
    }
  }
  const checkRoles = (names: readonly string[] | undefined, path: Path): void => {
    checkNames(names ?? [], document.roles, 'role', path)
  }
  const mistakeIn = patternChecker(resources, permissions)
  const checkPattern = (pattern: string, path: Path): void => {
    const mistake = mistakeIn(pattern)
    const { resource, scope, action } = parsePermission(pattern)!
    missing.note(`resource ${resource}`, `${resource} action ${action}`, `${resource} scope ${scope}`)
    if (typeof mistake === 'string') report(path, mistake)
    else if (mistake !== null) missing.add(mistake.key, path, mistake.missing, mistake.kind)
  }
  const checkPatterns = (patterns: readonly string[], path: Path): void => {
    patterns.forEach((pattern, index) => {
      checkPattern(pattern, [...path, index])
    })
  }
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
      if (Object.hasOwn(document.services!, call)) missing.note(`service ${call}`)
      else {
        missing.add(
          `service ${call}`,
          [...path, 'call'],
          { message: `there is no service "${call}"`, name: call, declared: keysOf(document.services!, 'services') },
          'service '
        )
      }
      checkPatterns(permissions, [...path, 'permissions'])
    }
  }
  for (const [index, { roles }] of (document.separation ?? []).entries()) {
    checkRoles(roles, ['separation', index, 'roles'])
  }
  missing.report()
}

/**
 * Collects names that do not exist. If a name is misspelt where it is declared, every use of it is
 * undefined: then report the declaration as the mistake, not each use.
 */
class MissingNames {
  readonly #report: ReportProblem
  readonly #lineOf: (path: Path, part: 'key' | 'value') => number
  readonly #used = new Set<string>()
  readonly #found = new Map<string, Missing & { readonly paths: Path[], readonly kind: string }>()

  constructor (report: ReportProblem, lineOf: (path: Path, part: 'key' | 'value') => number) {
    this.#report = report
    this.#lineOf = lineOf
  }

  /** Records that names are used. */
  note (...keys: readonly string[]): void {
    for (const key of keys) this.#used.add(key)
  }

  /** @param kind the prefix before the name in its key */
  add (key: string, path: Path, missing: Missing, kind: string): void {
    const known = this.#found.get(key)
    if (known === undefined) this.#found.set(key, { ...missing, kind, paths: [path] })
    else known.paths.push(path)
  }

  report (): void {
    for (const { message, name, declared, kind, paths } of this.#found.values()) {
      const near = closest(name, declared.keys())
      const [first, ...others] = paths as [Path, ...Path[]]
      const more = others.length === 0 ? '' : ` (so do ${others.length} more places)`
      if (near === null) {
        this.#report(first, `${message}${strangeCharacterHint(name)}${more}`)
        continue
      }
      const [path, part] = declared.get(near)!
      const isUnused = !this.#used.has(`${kind}${near}`)
      if (isUnused && others.length > 0) {
        this.#report(
          path,
          `"${near}" is declared here and used nowhere, while "${name}" is used in line ` +
            `${this.#lineOf(first, 'value')} and ` +
            `${others.length === 1 ? 'in another place' : `in ${others.length} other places`}; is one of the two ` +
            `misspelt?${strangeCharacterHint(near)}`,
          part
        )
      } else {
        const where = isUnused ? `, declared in line ${this.#lineOf(path, part)} and used nowhere` : ''
        this.#report(
          first,
          `${message}${strangeCharacterHint(name) || strangeCharacterHint(near)}; did you mean ` +
            `"${near}"${where}?${more}`
        )
      }
    }
  }
}

interface PatternMistake {
  readonly key: string
  readonly kind: string
  readonly missing: Missing
}

/**
 * Returns a function that checks a pattern of well-formed segments: it returns what is wrong, or null if
 * the pattern matches something.
 */
function patternChecker (
  resources: ReadonlyMap<string, ResourceDefinition>,
  permissions: readonly string[]
): (pattern: string) => PatternMistake | string | null {
  const parsed = permissions.map(permission => parsePermission(permission)!)
  // Cache the results: a policy uses few different patterns, many times.
  const known = new Map<string, PatternMistake | string | null>(permissions.map(permission => [permission, null]))
  return pattern => {
    let mistake = known.get(pattern)
    if (mistake === undefined) {
      const parts = parsePermission(pattern)!
      mistake = parsed.some(permission => ruleMatches(parts, permission, 'allow'))
        ? null
        : patternMistake(parts, resources)
      known.set(pattern, mistake)
    }
    return mistake
  }
}

function patternMistake (
  { resource, scope, action }: PermissionParts,
  resources: ReadonlyMap<string, ResourceDefinition>
): PatternMistake | string {
  const candidates = resource === '*' ? [...resources] : [...resources].filter(([name]) => name === resource)
  if (candidates.length === 0) {
    const declared = new Map([...resources.keys()].map(name => [name, [['resources', name], 'key'] as const]))
    return {
      key: `resource ${resource}`,
      kind: 'resource ',
      missing: { message: `there is no resource "${resource}"`, name: resource, declared }
    }
  }
  const owner = resource === '*' ? 'no resource has' : `"${resource}" does not have`
  const lacks = (what: 'action' | 'scope', name: string): PatternMistake => {
    const declared = new Map(
      candidates.flatMap(([owner, { [`${what}s` as const]: names }]) =>
        names.map((name, at) => [name, [['resources', owner, `${what}s`, at], 'value']] as const)
      )
    )
    return {
      key: `${resource} ${what} ${name}`,
      kind: `${resource} ${what} `,
      missing: { message: `${owner} the ${what} "${name}"`, name, declared }
    }
  }
  if (action !== '*' && !candidates.some(([, { actions }]) => actions.includes(action))) return lacks('action', action)
  if (!candidates.some(([, { scopes }]) => scopes.includes(scope))) return lacks('scope', scope)
  return `no resource has both the scope "${scope}" and the action "${action}"`
}

/** Maps names and aliases of environments to the environment's name. */
export function readAliases (document: PolicyDocument, report: ReportProblem): ReadonlyMap<string, string> {
  const names = Object.keys(document.environments)
  const aliases = new Map(names.map(name => [name, name]))
  for (const [name, { aliases: others = [] }] of Object.entries(document.environments)) {
    for (const [index, alias] of others.entries()) {
      const taken = aliases.get(alias)
      if (taken !== undefined) {
        report(['environments', name, 'aliases', index], `"${alias}" already names the environment "${taken}"`)
      } else aliases.set(alias, name)
    }
  }
  return aliases
}
