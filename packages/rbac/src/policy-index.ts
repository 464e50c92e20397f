import type { PolicyRow, RoleLink } from './casbin-engine.js'
import { parsePermission, segmentMatches, speaksOf } from './permission.js'
import { roleClosures } from './role-graph.js'

const ALLOW = 1
const DENY = 2

/**
 * Every decision of a policy, worked out beforehand: for each environment a table of roles by permissions. A cell says
 * whether the role, with all it inherits, is allowed the permission, and whether the role itself is denied it.
 */
export interface PolicyIndex {
  roleId (name: string): number | undefined
  permissionId (name: string): number | undefined
  environmentId (name: string): number | undefined
  /** Ors the cells of the caller's roles: allowed when one allows and none denies. Unknown roles count for nothing. */
  decide (roles: readonly string[], permissionId: number, environmentId: number): boolean
  /** The role and every role it inherits from. */
  closureOf (role: string): ReadonlySet<string>
}

/** Compiles Casbin's rows. Names are interned in the order given. */
export function compileIndex (
  rows: readonly PolicyRow[], links: readonly RoleLink[],
  roles: readonly string[], permissions: readonly string[], environments: readonly string[]
): PolicyIndex {
  const roleIds = intern(roles)
  const permissionIds = intern(permissions)
  const environmentIds = intern(environments)
  const closures = roleClosures(roles, links)
  const heirs = heirsOf(closures, roleIds)
  const parsed = permissions.map(permission => parsePermission(permission)!)
  const byResource = groupByResource(parsed)
  const width = permissions.length
  const tables = environments.map(() => new Uint8Array(roles.length * width))

  for (const [role, environment, resource, scope, action, effect] of rows) {
    const roleId = roleIds.get(role)
    if (roleId === undefined) throw new Error(`Casbin holds a rule for the unknown role ${role}`)
    // An allow reaches every role that inherits it; a deny stays where it was written.
    const reached = effect === 'allow' ? heirs.get(role)! : [roleId]
    const bit = effect === 'allow' ? ALLOW : DENY
    const candidates = resource === '*' ? parsed.keys() : byResource.get(resource) ?? []
    for (const id of candidates) {
      if (!speaksOf({ resource, scope, action }, parsed[id]!, effect)) continue
      for (const [at, name] of environments.entries()) {
        if (!segmentMatches(name, environment)) continue
        const table = tables[at]!
        for (const heir of reached) table[heir * width + id]! |= bit
      }
    }
  }

  return Object.freeze({
    roleId: (name: string) => roleIds.get(name),
    permissionId: (name: string) => permissionIds.get(name),
    environmentId: (name: string) => environmentIds.get(name),
    decide (held: readonly string[], permissionId: number, environmentId: number) {
      const table = tables[environmentId]!
      let bits = 0
      for (let i = 0; i < held.length; i++) {
        const roleId = roleIds.get(held[i]!)
        if (roleId !== undefined) bits |= table[roleId * width + permissionId]!
      }
      return bits === ALLOW
    },
    closureOf: (role: string) => closures.get(role) ?? new Set([role])
  })
}

function intern (names: readonly string[]): ReadonlyMap<string, number> {
  return new Map(names.map((name, id) => [name, id]))
}

function groupByResource (permissions: ReadonlyArray<{ readonly resource: string }>): Map<string, number[]> {
  const groups = new Map<string, number[]>()
  for (const [id, { resource }] of permissions.entries()) groups.set(resource, [...groups.get(resource) ?? [], id])
  return groups
}

/** For every role, the ids of the roles that inherit it, itself included. */
function heirsOf (closures: ReadonlyMap<string, ReadonlySet<string>>, ids: ReadonlyMap<string, number>): ReadonlyMap<string, readonly number[]> {
  const heirs = new Map<string, number[]>([...ids.keys()].map(role => [role, []]))
  for (const [role, closure] of closures) for (const member of closure) heirs.get(member)?.push(ids.get(role)!)
  return heirs
}
