import type { Attributes } from '../conditions/evaluate.js'
import { ANYONE, serviceSubject, subjectName, type PolicyOutline } from '../model/definition.js'
import type { PolicyIndex, Rows } from './policy-index.js'
import { roleClosure } from '../model/role-graph.js'

/**
 * A caller's roles, looked up in one generation of a policy. With another generation it is looked up
 * again, so a connection may keep it across reloads.
 */
export interface RoleSet {
  readonly roles: readonly string[]
  /**
   * The caller's subject as a service that calls this one, such
   * as `svc:recorder>storage`; null if it is not a service.
   */
  readonly service: string | null
  /** Whether two of the roles must not be held together, so that nothing they give counts. */
  readonly separated: boolean
  /** Offsets of rows in the index; useless with another index. */
  readonly rows: Rows
  readonly index: PolicyIndex
}

export interface RoleSets {
  /**
   * Looks a caller up. Cached for frozen arrays, so that a request whose principal keeps the same array
   * looks up no name.
   */
  of (roles: readonly string[], attributes: Attributes): RoleSet
  /** Looks the same caller up in this generation. */
  renew (set: RoleSet): RoleSet
}

/** Determines which subjects of a policy a caller is. */
export function createRoleSets (outline: PolicyOutline, index: PolicyIndex): RoleSets {
  const { roles: known, separations, requirements } = outline
  const closures = new Map<string, ReadonlySet<string>>()
  const anyone = index.subjects.get(ANYONE)
  const separated = separations.map(({ roles }, separation) => ({
    roles,
    subject: index.subjects.get(subjectName({ kind: 'separated', separation }))
  }))
  const unmet = requirements.map((roles, requirement) => ({
    roles,
    subject: index.subjects.get(subjectName({ kind: 'unmet', requirement }))
  }))
  const closureOf = (role: string): ReadonlySet<string> => {
    let closure = closures.get(role)
    if (closure === undefined) closures.set(role, closure = roleClosure(role, known))
    return closure
  }
  const cache = new WeakMap<readonly string[], RoleSet>()

  const resolve = (roles: readonly string[], service: string | null): RoleSet => {
    const held: string[] = []
    const subjects: number[] = []
    const add = (subject: number | undefined): void => { if (subject !== undefined) subjects.push(subject) }
    for (const role of roles.length < 2 ? roles : new Set(roles)) {
      // Only roles of the policy count: a role cannot pose as a service or another kind of subject.
      if (!known.has(role)) continue
      held.push(role)
      add(index.subjects.get(role))
    }
    const holds = (role: string): boolean => held.some(own => closureOf(own).has(role))
    if (service !== null) add(index.subjects.get(service))
    add(anyone)
    const violated = separated.filter(({ roles: pair }) => pair.filter(holds).length >= 2)
    for (const { subject } of violated) add(subject)
    for (const { roles: sufficient, subject } of unmet) if (!sufficient.some(holds)) add(subject)
    return Object.freeze({ roles, service, separated: violated.length > 0, rows: index.rowsOf(subjects), index })
  }

  return {
    of (roles, { principal, service }) {
      if (service !== undefined && principal?.kind === 'service' && typeof principal.id === 'string') {
        return resolve(roles, serviceSubject(principal.id, service))
      }
      let set = cache.get(roles)
      if (set === undefined) {
        set = resolve(roles, null)
        if (Object.isFrozen(roles)) cache.set(roles, set)
      }
      return set
    },
    renew: ({ roles, service }) => resolve(roles, service)
  }
}
