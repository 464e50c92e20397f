import type { Path } from '@marty/config'
import { subjectName, type Rule, type Separation, type Subject } from './definition.js'
import { formatPermission, parsePermission, type PermissionParts } from './permission.js'
import type { PolicyDocument } from './policy-schema.js'
import type { ConditionReader } from './read-conditions.js'

/** Every role, with itself and all it inherits from. */
type Closures = ReadonlyMap<string, ReadonlySet<string>>

export interface ReadRules {
  readonly rules: readonly Rule[]
  readonly separations: readonly Separation[]
  readonly requirements: ReadonlyArray<readonly string[]>
}

/** Spells a policy out: one rule for each subject, pattern and environment, each once. */
export function readRules (document: PolicyDocument, conditions: ConditionReader, closures: Closures): ReadRules {
  const rules: Rule[] = []
  const said = new Map<string, Set<string>>()
  const requirements: Array<readonly string[]> = []
  const parse = patternParser()
  const add = (subject: Subject, pattern: string, path: Path, { environment, effect, condition, reason }: Omit<Rule, 'subject' | 'resource' | 'scope' | 'action' | 'path'>): void => {
    const { short, resource, scope, action } = parse(pattern)
    const name = subjectName(subject)
    let known = said.get(name)
    if (known === undefined) said.set(name, known = new Set())
    const key = `${environment} ${short} ${effect} ${condition}`
    if (known.has(key)) return
    known.add(key)
    rules.push({ subject, resource, scope, action, environment, effect, condition, reason, path })
  }

  for (const [role, entries] of Object.entries(document.roles)) {
    const subject: Subject = { kind: 'role', role }
    for (const effect of ['allow', 'deny'] as const) {
      for (const [index, entry] of (entries[effect] ?? []).entries()) {
        const path = ['roles', role, effect, index]
        const { permission, when, reason = null } = typeof entry === 'string' ? { permission: entry } : entry
        add(subject, permission, path, { environment: '*', effect, condition: conditions.read(when, [permission], [...path, 'when']), reason })
      }
    }
  }
  for (const [caller, { may = [] }] of Object.entries(document.services ?? {})) {
    for (const [index, { call: callee, permissions, when, reason = null }] of may.entries()) {
      const path = ['services', caller, 'may', index]
      const condition = conditions.read(when, permissions, [...path, 'when'])
      for (const [at, pattern] of permissions.entries()) {
        add({ kind: 'service', caller, callee }, pattern, [...path, 'permissions', at], { environment: '*', effect: 'allow', condition, reason })
      }
    }
  }
  for (const [environment, { deny = [], require = [] }] of Object.entries(document.environments)) {
    for (const [index, { roles, permissions, when, reason = null }] of deny.entries()) {
      const path = ['environments', environment, 'deny', index]
      const condition = conditions.read(when, permissions, [...path, 'when'])
      for (const role of roles) {
        for (const [at, pattern] of permissions.entries()) {
          add({ kind: 'role', role }, pattern, [...path, 'permissions', at], { environment, effect: 'deny', condition, reason })
        }
      }
    }
    // What is required is denied to everybody without it: narrowing needs no third effect.
    for (const [index, { roles, permissions, when, reason = null }] of require.entries()) {
      const path = ['environments', environment, 'require', index]
      const opposite = conditions.read(when, permissions, [...path, 'when'], true)
      const requirement = roles === undefined ? null : requirements.push(roles) - 1
      for (const [at, pattern] of permissions.entries()) {
        const where = [...path, 'permissions', at]
        if (requirement !== null) add({ kind: 'lacking', requirement }, pattern, where, { environment, effect: 'deny', condition: null, reason })
        if (opposite !== null) add({ kind: 'anyone' }, pattern, where, { environment, effect: 'deny', condition: opposite, reason })
      }
    }
  }

  const separations = (document.separation ?? []).map(({ roles, reason = null }) => ({ roles, reason }))
  if (separations.length > 0) addSeparations(closures, separations, [...rules], add)
  return { rules: Object.freeze(rules), separations, requirements }
}

/** Parses each different pattern once: a policy names few of them, often. `short` is the same for every way to write it. */
function patternParser (): (pattern: string) => PermissionParts & { readonly short: string } {
  const known = new Map<string, PermissionParts & { readonly short: string }>()
  return pattern => {
    let parts = known.get(pattern)
    if (parts === undefined) {
      const read = parsePermission(pattern)!
      known.set(pattern, parts = { ...read, short: formatPermission(read) })
    }
    return parts
  }
}

/** Who holds two roles that are kept apart is denied whatever one of them is allowed, by itself or through inheritance. */
function addSeparations (closures: Closures, separations: readonly Separation[], rules: readonly Rule[],
  add: (subject: Subject, pattern: string, path: Path, rest: Pick<Rule, 'environment' | 'effect' | 'condition' | 'reason'>) => void): void {
  for (const [separation, { roles, reason }] of separations.entries()) {
    const members = new Set(roles.flatMap(role => [...closures.get(role) ?? []]))
    for (const { subject, effect, environment, resource, scope, action } of rules) {
      if (effect !== 'allow' || subject.kind !== 'role' || !members.has(subject.role)) continue
      add({ kind: 'separated', separation }, `${resource}:${scope}:${action}`, ['separation', separation], { environment, effect: 'deny', condition: null, reason })
    }
  }
}

/** Roles that hold, through what they inherit, two roles that nobody may hold together. */
export function separationProblems (document: PolicyDocument, closures: Closures): Array<{ readonly path: Path, readonly message: string }> {
  return (document.separation ?? []).flatMap(({ roles }, index) => [...closures].flatMap(([role, closure]) => {
    const held = roles.filter(name => closure.has(name))
    return held.length < 2 ? [] : [{ path: ['separation', index], message: `"${role}" always holds ${held.join(' and ')}, itself or through inheritance; nobody could use what they give` }]
  }))
}
