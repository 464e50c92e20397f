import type { Path } from '@marty/config'
import { subjectName, type Rule, type Separation, type Subject } from '../model/definition.js'
import { formatPermission, parsePermission, type PermissionParts } from '../model/permission.js'
import type { PolicyDocument } from './schema.js'
import type { ConditionReader } from './conditions.js'

/** Maps every role to itself and all roles that it inherits from. */
type Closures = ReadonlyMap<string, ReadonlySet<string>>

export interface ReadRules {
  readonly rules: readonly Rule[]
  readonly separations: readonly Separation[]
  readonly requirements: ReadonlyArray<readonly string[]>
}

/** The properties that rules of one entry in the file share. */
type Common = Pick<Rule, 'environment' | 'effect' | 'condition' | 'reason'>

/** Adds a rule, unless the subject already has the same one. */
type AddRule = (pattern: string, path: Path) => void

/** Expands a policy to one rule for each subject, pattern and environment, without duplicates. */
export function readRules (document: PolicyDocument, conditions: ConditionReader, closures: Closures): ReadRules {
  const rules: Rule[] = []
  const requirements: Array<readonly string[]> = []
  const parse = patternParser()
  const said = new Map<string, Set<PermissionParts>>()
  const rulesFor = (subject: Subject, { environment, effect, condition, reason }: Common): AddRule => {
    const key = `${subjectName(subject)} ${environment} ${effect} ${condition}`
    const known = said.get(key) ?? new Set()
    said.set(key, known)
    return (pattern, path) => {
      const parts = parse(pattern)
      if (known.has(parts)) return
      known.add(parts)
      const { resource, scope, action } = parts
      rules.push({ subject, resource, scope, action, environment, effect, condition, reason, path })
    }
  }

  for (const [role, entries] of Object.entries(document.roles)) {
    const subject: Subject = { kind: 'role', role }
    for (const effect of ['allow', 'deny'] as const) {
      const addPlain = rulesFor(subject, { environment: '*', effect, condition: null, reason: null })
      for (const [index, entry] of (entries[effect] ?? []).entries()) {
        const path = ['roles', role, effect, index]
        if (typeof entry === 'string') {
          addPlain(entry, path)
          continue
        }
        const { permission, when, reason = null } = entry
        rulesFor(subject, {
          environment: '*',
          effect,
          condition: conditions.read(when, [permission], [...path, 'when']),
          reason
        })(permission, path)
      }
    }
  }
  for (const [caller, { may = [] }] of Object.entries(document.services ?? {})) {
    for (const [index, { call: callee, permissions, when, reason = null }] of may.entries()) {
      const path = ['services', caller, 'may', index]
      const add = rulesFor(
        { kind: 'service', caller, callee },
        { environment: '*', effect: 'allow', condition: conditions.read(when, permissions, [...path, 'when']), reason }
      )
      for (const [at, pattern] of permissions.entries()) add(pattern, [...path, 'permissions', at])
    }
  }
  for (const [environment, { deny = [], require = [] }] of Object.entries(document.environments)) {
    for (const [index, { roles, permissions, when, reason = null }] of deny.entries()) {
      const path = ['environments', environment, 'deny', index]
      const condition = conditions.read(when, permissions, [...path, 'when'])
      for (const role of roles) {
        const add = rulesFor({ kind: 'role', role }, { environment, effect: 'deny', condition, reason })
        for (const [at, pattern] of permissions.entries()) add(pattern, [...path, 'permissions', at])
      }
    }
    // A requirement becomes a deny for every caller that does not meet it, so rules need no third effect.
    for (const [index, { roles, permissions, when, reason = null }] of require.entries()) {
      const path = ['environments', environment, 'require', index]
      const opposite = conditions.read(when, permissions, [...path, 'when'], true)
      const addLacking =
        roles === undefined
          ? null
          : rulesFor(
            { kind: 'unmet', requirement: requirements.push(roles) - 1 },
            { environment, effect: 'deny', condition: null, reason }
          )
      const addOpposite =
        opposite === null
          ? null
          : rulesFor({ kind: 'anyone' }, { environment, effect: 'deny', condition: opposite, reason })
      for (const [at, pattern] of permissions.entries()) {
        const where = [...path, 'permissions', at]
        addLacking?.(pattern, where)
        addOpposite?.(pattern, where)
      }
    }
  }

  const separations = (document.separation ?? []).map(({ roles, reason = null }) => ({ roles, reason }))
  if (separations.length > 0) addSeparations(closures, separations, [...rules], rulesFor)
  return { rules: Object.freeze(rules), separations, requirements }
}

/**
 * Parses each different pattern once: a policy uses few of them, many times. Every spelling of a pattern
 * gives the same object.
 */
function patternParser (): (pattern: string) => PermissionParts {
  const known = new Map<string, PermissionParts>()
  return pattern => {
    let parts = known.get(pattern)
    if (parts === undefined) {
      const read = parsePermission(pattern)!
      const short = formatPermission(read)
      parts = known.get(short) ?? read
      known.set(short, parts).set(pattern, parts)
    }
    return parts
  }
}

/**
 * A caller who holds two separated roles is denied everything that either of them allows, directly or
 * through inheritance.
 */
function addSeparations (closures: Closures, separations: readonly Separation[], rules: readonly Rule[],
  rulesFor: (subject: Subject, common: Common) => AddRule): void {
  for (const [separation, { roles, reason }] of separations.entries()) {
    const members = new Set(roles.flatMap(role => [...closures.get(role) ?? []]))
    for (const { subject, effect, environment, resource, scope, action } of rules) {
      if (effect !== 'allow' || subject.kind !== 'role' || !members.has(subject.role)) continue
      rulesFor({ kind: 'separated', separation }, { environment, effect: 'deny', condition: null, reason })(
        `${resource}:${scope}:${action}`,
        ['separation', separation]
      )
    }
  }
}

/** Finds roles that inherit two roles which must not be held together. */
export function separationProblems (
  document: PolicyDocument,
  closures: Closures
): Array<{ readonly path: Path, readonly message: string }> {
  return (document.separation ?? []).flatMap(({ roles }, index) =>
    [...closures].flatMap(([role, closure]) => {
      const held = roles.filter(name => closure.has(name))
      return held.length < 2
        ? []
        : [
            {
              path: ['separation', index],
              message: `"${role}" always holds ${held.join(' and ')}, itself or through inheritance; nobody could ` +
                'use what they give'
            }
          ]
    })
  )
}
