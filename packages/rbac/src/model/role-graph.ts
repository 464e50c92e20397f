import type { Path } from '@marty/config'
import { append } from '@marty/core'
import type { RoleDefinition } from './definition.js'

/** Casbin's role manager follows at most this many links, and silently denies beyond them. */
export const MAX_DEPTH = 10

/**
 * Casbin follows every path from one role to another. More
 * paths than this are a mistake, and would be slow.
 */
const MAX_WAYS = 1000

/** Bounds the search: far above what is accepted, but small enough to be fast. */
const MAX_TRAIL = 100

interface InheritanceProblem {
  readonly path: Path
  readonly message: string
}

/** Finds cycles, chains that Casbin would cut off, and graphs with so many paths that Casbin would be slow. */
export function inheritanceProblems (roles: ReadonlyMap<string, RoleDefinition>): InheritanceProblem[] {
  const problems: InheritanceProblem[] = []
  const known = new Map<string, { depth: number, ways: number }>()
  const visit = (name: string, trail: readonly string[]): { depth: number, ways: number } => {
    const finished = known.get(name)
    if (finished !== undefined) return finished
    if (trail.length > MAX_TRAIL) {
      problems.push({ path: ['roles', name], message: `"${name}" is inherited over more than ${MAX_DEPTH} roles` })
      known.set(name, { depth: 0, ways: 1 })
      return { depth: 0, ways: 1 }
    }
    const role = roles.get(name)
    let depth = 0
    let ways = 1
    for (const [index, parent] of (role?.inherits ?? []).entries()) {
      const path = ['roles', name, 'inherits', index]
      const start = [...trail, name].indexOf(parent)
      if (start !== -1) {
        problems.push({
          path,
          message: `roles inherit in a circle: ${[...trail, name].slice(start).concat(parent).join(' > ')}`
        })
        continue
      }
      const above = visit(parent, [...trail, name])
      depth = Math.max(depth, above.depth + 1)
      ways += above.ways
      // Report it once, where the chain becomes too long.
      if (above.depth + 1 === MAX_DEPTH + 1) {
        problems.push({ path, message: `"${name}" inherits over more than ${MAX_DEPTH} roles` })
      }
    }
    if (ways > MAX_WAYS && [...role?.inherits ?? []].every(parent => (known.get(parent)?.ways ?? 0) <= MAX_WAYS)) {
      problems.push({
        path: ['roles', name, 'inherits'],
        message: `"${name}" inherits in more than ${MAX_WAYS} ways; leave out what is inherited already`
      })
    }
    known.set(name, { depth, ways })
    return { depth, ways }
  }
  for (const name of roles.keys()) visit(name, [])
  return problems
}

/** Maps every role to itself and all roles that it inherits from. */
export function roleClosures (
  roles: readonly string[],
  links: ReadonlyArray<readonly [string, string]>
): ReadonlyMap<string, ReadonlySet<string>> {
  const parents = new Map<string, string[]>()
  for (const [child, parent] of links) append(parents, child, parent)
  return new Map(
    roles.map(role => {
      const closure = new Set([role])
      for (const member of closure) for (const parent of parents.get(member) ?? []) closure.add(parent)
      return [role, closure]
    })
  )
}

/** A role and all roles that it inherits from. */
export function roleClosure (role: string, roles: ReadonlyMap<string, RoleDefinition>): ReadonlySet<string> {
  const closure = new Set([role])
  for (const member of closure) for (const parent of roles.get(member)?.inherits ?? []) closure.add(parent)
  return closure
}

/** These roles and all roles that inherit one of them. */
export function rolesAbove (
  wanted: readonly string[],
  roles: ReadonlyMap<string, RoleDefinition>
): ReadonlySet<string> {
  const children = new Map<string, string[]>()
  for (const [child, { inherits }] of roles) for (const parent of inherits) append(children, parent, child)
  const found = new Set(wanted.filter(role => roles.has(role)))
  for (const role of found) for (const child of children.get(role) ?? []) found.add(child)
  return found
}

/** The shortest path from a role to one that it inherits from, both included; null if there is none. */
export function rolePath (
  from: string,
  to: string,
  roles: ReadonlyMap<string, RoleDefinition>
): readonly string[] | null {
  const cameFrom = new Map<string, string | null>([[from, null]])
  for (const role of cameFrom.keys()) {
    if (role === to) {
      const path = [role]
      for (let step = cameFrom.get(role); step !== null && step !== undefined; step = cameFrom.get(step)) {
        path.unshift(step)
      }
      return path
    }
    for (const parent of roles.get(role)?.inherits ?? []) if (!cameFrom.has(parent)) cameFrom.set(parent, role)
  }
  return null
}
