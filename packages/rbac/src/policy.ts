import { createHash } from 'node:crypto'
import type { SourceProblem } from '@marty/config'
import { createCasbinEngine, type CasbinEngine } from './casbin-engine.js'
import type { PolicyDefinition } from './definition.js'
import { PermissionUnknown, PolicyInvalid } from './errors.js'
import { explain, type Explanation } from './explain.js'
import { compileIndex, type PolicyIndex } from './policy-index.js'
import { didYouMean, readPolicy } from './read-policy.js'
import { selfCheck } from './self-check.js'

/** A role as people ask about it. */
export interface RoleSummary {
  readonly name: string
  readonly description: string | null
  readonly inherits: readonly string[]
}

/** One loaded, compiled and checked policy. Never changes; a new text makes a new one. */
export interface Policy {
  readonly file: string
  /** Of the text, in hexadecimal: tells two policies apart. */
  readonly sha256: string
  readonly roles: readonly RoleSummary[]
  /** Every permission that can be asked for, as `resource:action` or `resource:scope:action`. */
  readonly permissions: readonly string[]
  readonly resources: readonly string[]
  readonly environments: readonly string[]
  /** Names and aliases of environments, to the environment's name. */
  readonly environmentNames: ReadonlyMap<string, string>
  /** Number of rules the policy was compiled from. */
  readonly rules: number
  /** Whether a caller with these roles is allowed. Default deny; a deny beats every allow. Throws for unknown names of permissions and environments. */
  decide (roles: readonly string[], permission: string, environment: string): boolean
  /** The same decision with the names looked up beforehand; null when the policy defines no such permission. */
  decider (permission: string, environment: string): ((roles: readonly string[]) => boolean) | null
  /** The same question answered by Casbin itself: slow, for comparison. */
  decideByCasbin (roles: readonly string[], permission: string, environment: string): boolean
  /** Why. */
  explain (roles: readonly string[], permission: string, environment: string): Explanation
  /** What a caller with these roles is allowed, in the file's order. */
  permissionsOf (roles: readonly string[], environment: string): readonly string[]
  /** Names of the roles that are one of these or inherit one of them. */
  rolesThatHold (roles: readonly string[]): ReadonlySet<string>
}

/**
 * Reads, compiles and checks a policy. Throws {@link PolicyInvalid} with every mistake of the text, and when the
 * compiled index does not decide as Casbin does.
 */
export async function loadPolicy (text: string, file: string): Promise<Policy> {
  const { definition, problems } = readPolicy(text, file)
  if (definition === null) throw new PolicyInvalid(problems)
  const engine = await createCasbinEngine(definition)
  const index = compileIndex(engine.rows, engine.links, [...definition.roles.keys()], definition.permissions, definition.environments)
  const differences = selfCheck(definition, engine, index)
  if (differences.length > 0) throw new PolicyInvalid(differences)
  return createPolicy(definition, engine, index, createHash('sha256').update(text).digest('hex'))
}

/** Every mistake of a policy file, for tools. Throws nothing. */
export function checkPolicy (text: string, file: string): { readonly problems: readonly SourceProblem[] } {
  return { problems: readPolicy(text, file).problems }
}

function createPolicy (definition: PolicyDefinition, engine: CasbinEngine, index: PolicyIndex, sha256: string): Policy {
  const { file, permissions, environments, aliases } = definition
  const permissionId = (name: string): number => {
    const id = index.permissionId(name)
    if (id === undefined) throw new PermissionUnknown(`The policy defines no permission "${name}"${didYouMean(name, permissions)}`)
    return id
  }
  const environmentName = (name: string): string => {
    const found = aliases.get(name)
    if (found === undefined) throw new RangeError(`The policy defines no environment "${name}"${didYouMean(name, aliases.keys())}`)
    return found
  }
  const environmentId = (name: string): number => index.environmentId(environmentName(name))!

  return Object.freeze({
    file,
    sha256,
    roles: Object.freeze([...definition.roles].map(([name, role]) => Object.freeze({ name, ...role }))),
    permissions,
    resources: Object.freeze([...definition.resources.keys()]),
    environments,
    environmentNames: aliases,
    rules: definition.rules.length,
    decide: (roles: readonly string[], permission: string, environment: string) =>
      index.decide(roles, permissionId(permission), environmentId(environment)),
    decider (permission: string, environment: string) {
      const id = index.permissionId(permission)
      const at = environmentId(environment)
      return id === undefined ? null : (roles: readonly string[]) => index.decide(roles, id, at)
    },
    decideByCasbin (roles: readonly string[], permission: string, environment: string) {
      permissionId(permission)
      return engine.decide(roles, permission, environmentName(environment))
    },
    explain (roles: readonly string[], permission: string, environment: string) {
      const allowed = index.decide(roles, permissionId(permission), environmentId(environment))
      return explain(definition, allowed, roles, permission, environmentName(environment))
    },
    permissionsOf (roles: readonly string[], environment: string) {
      const at = environmentId(environment)
      return permissions.filter((_, id) => index.decide(roles, id, at))
    },
    rolesThatHold (roles: readonly string[]) {
      return new Set([...definition.roles.keys()].filter(role => roles.some(wanted => index.closureOf(role).has(wanted))))
    }
  })
}
