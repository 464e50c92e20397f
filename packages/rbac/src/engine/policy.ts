import { createHash } from 'node:crypto'
import type { SourceProblem } from '@marty/config'
import { didYouMean } from '@marty/core'
import { createCasbinEngine, type CasbinEngine } from './casbin-engine.js'
import { TRUE, UNKNOWN, type Attributes, type Question, type Truth } from '../conditions/evaluate.js'
import type { PolicyDefinition, PolicyOutline } from '../model/definition.js'
import { PermissionUnknown, PolicyInvalid } from '../errors.js'
import { explain, type Explanation } from './explain.js'
import { compileIndex, type Ids, type PolicyIndex } from './policy-index.js'
import { readPolicy } from '../parse/policy.js'
import { rolesAbove } from '../model/role-graph.js'
import { createRoleSets, type RoleSet, type RoleSets } from './role-sets.js'
import { selfCheck } from './self-check.js'

/** The public description of a role. */
export interface RoleSummary {
  readonly name: string
  readonly description: string | null
  readonly inherits: readonly string[]
}

export interface LoadPolicyOptions {
  /** The generation before this one. Ids of its permissions and environments stay the same. */
  readonly previous?: Policy
  /** Milliseconds since the epoch, for conditions on the time. @default Date.now */
  readonly clock?: () => number
}

/**
 * One loaded, compiled and checked policy: a generation. It
 * never changes; changed text makes a new generation.
 */
export interface Policy {
  readonly file: string
  /** SHA-256 of the text, in hexadecimal: identifies the policy. */
  readonly sha256: string
  /** Counts up from 1 along the chain of `previous`. */
  readonly generation: number
  readonly roles: readonly RoleSummary[]
  /** Every permission that can be requested, as `resource:action` or `resource:scope:action`. */
  readonly permissions: readonly string[]
  readonly resources: readonly string[]
  readonly environments: readonly string[]
  /** Maps names and aliases of environments to the environment's name. */
  readonly environmentNames: ReadonlyMap<string, string>
  readonly services: readonly string[]
  /** Number of rules that the policy was compiled from. */
  readonly rules: number
  /** Size of the compiled tables. */
  readonly sizeBytes: number

  /**
   * The id of a permission, which stays the same in every later generation; undefined if the policy
   * defines no such permission.
   */
  permissionId(name: string): number | undefined
  /** The same for an environment, by name or alias. */
  environmentId(name: string): number | undefined
  /**
   * Looks a caller up once, for many decisions; cached for frozen arrays. `attributes` identifies the
   * caller if services have rules.
   */
  roleSet(roles: readonly string[], attributes?: Attributes): RoleSet
  /**
   * The fastest decision. Ids that this generation does not define are denied; a role set of another
   * generation is looked up again.
   */
  decideId(roleSet: RoleSet, permissionId: number, environmentId: number, attributes?: Attributes): boolean

  /**
   * Whether a caller with these roles is allowed a permission. The default is deny, and a deny overrides
   * every allow. An attribute that a condition reads and that is missing from `attributes` never widens
   * access. Throws for unknown names of permissions and environments; a permission that only an earlier
   * generation defined is denied.
   */
  decide(roles: readonly string[], permission: string, environment: string, attributes?: Attributes): boolean
  /** The same decision with the names looked up beforehand; null if the policy defines no such permission. */
  decider(
    permission: string,
    environment: string
  ): ((roles: readonly string[], attributes?: Attributes) => boolean) | null
  /** The same decision by Casbin itself: slow, for comparison. */
  decideByCasbin(roles: readonly string[], permission: string, environment: string, attributes?: Attributes): boolean
  /** Why the decision is what it is. */
  explain(roles: readonly string[], permission: string, environment: string, attributes?: Attributes): Explanation
  /**
   * Attributes of the resource that a decision may depend on, such as `owner`: a route has to load these
   * before the decision.
   */
  attributesOf(permission: string, environment: string): readonly string[]
  /** The permissions that a caller with these roles is allowed, in the order of the file. */
  permissionsOf(roles: readonly string[], environment: string, attributes?: Attributes): readonly string[]
  /** The names of these roles and of all roles that inherit one of them. */
  rolesThatHold(roles: readonly string[]): ReadonlySet<string>
}

/** The parts a policy was made from, for the tools of this package. */
export interface PolicyParts {
  readonly outline: PolicyOutline
  /** After a reload, read from the text only when it is needed. */
  readonly definition: PolicyDefinition
  readonly index: PolicyIndex
  readonly ids: Ids
}

const parts = new WeakMap<Policy, PolicyParts>()

export function partsOf (policy: Policy): PolicyParts {
  const found = parts.get(policy)
  if (found === undefined) throw new TypeError('This policy was not made by loadPolicy')
  return found
}

/**
 * Parses, compiles and checks a policy. Throws {@link PolicyInvalid} with every mistake of the text, and
 * if the compiled index decides differently from Casbin.
 */
export async function loadPolicy (
  text: string,
  file: string,
  { previous, clock = Date.now }: LoadPolicyOptions = {}
): Promise<Policy> {
  return loadAfter(text, file, previous === undefined ? NO_IDS : partsOf(previous).ids, {
    clock,
    generation: (previous?.generation ?? 0) + 1
  })
}

export const NO_IDS: Ids = Object.freeze({ permissions: [], environments: [] })

/** Like {@link loadPolicy}, but needs only the ids of the previous generation. */
export function loadAfter (
  text: string,
  file: string,
  before: Ids,
  { clock, generation }: Pick<PolicyComponents, 'clock' | 'generation'>
): Policy {
  const { definition, problems } = readPolicy(text, file)
  if (definition === null) throw new PolicyInvalid(problems)
  const engine = createCasbinEngine(definition)
  const ids = idsAfter(before, definition)
  const index = compileIndex(engine.rows, engine.links, [...definition.roles.keys()], ids, definition)
  const sets = createRoleSets(definition, index)
  const differences = selfCheck(definition, engine, index, sets, ids)
  if (differences.length > 0) throw new PolicyInvalid(differences)
  const sha256 = createHash('sha256').update(text).digest('hex')
  return createPolicy({
    outline: definition,
    rules: definition.rules.length,
    definition: () => definition,
    engine: () => engine,
    index,
    sets,
    ids,
    clock,
    sha256,
    generation
  })
}

/** Reports every mistake of a policy file, for tools. Throws nothing. */
export function checkPolicy (text: string, file: string): { readonly problems: readonly SourceProblem[] } {
  return { problems: readPolicy(text, file).problems }
}

/** Ids are never reused: an id that is kept across a reload can never refer to another permission. */
function idsAfter (before: Ids, { permissions, environments }: PolicyDefinition): Ids {
  return {
    permissions: Object.freeze([...new Set([...before.permissions, ...permissions])]),
    environments: Object.freeze([...new Set([...before.environments, ...environments])])
  }
}

/**
 * The parts that a policy is created from. Those that only explanations and comparisons need may be
 * created lazily.
 */
export interface PolicyComponents {
  readonly outline: PolicyOutline
  readonly rules: number
  readonly definition: () => PolicyDefinition
  readonly engine: () => CasbinEngine
  readonly index: PolicyIndex
  readonly ids: Ids
  readonly sets: RoleSets
  readonly clock: () => number
  readonly sha256: string
  readonly generation: number
}

const NO_ATTRIBUTES: Attributes = Object.freeze({})
// Local copies: an imported binding is read from memory and checked at each use, while the engine folds
// these two into the code of a decision.
const IS_TRUE: Truth = TRUE
const IS_UNKNOWN: Truth = UNKNOWN

export function createPolicy ({
  outline, rules, definition, engine, index, sets, ids, clock, sha256, generation
}: PolicyComponents): Policy {
  const { file, roles, permissions, environments, aliases, conditions } = outline
  const idOf = (all: readonly string[], names: Iterable<readonly [string, string]>): ReadonlyMap<string, number> => {
    const positions = new Map(all.map((name, id) => [name, id]))
    return new Map([...names].map(([name, target]) => [name, positions.get(target)!]))
  }
  // Take the names from object keys: the engine interns those, as it does literals, so comparing them is a
  // pointer comparison.
  const permissionIds = idOf(
    ids.permissions,
    Object.keys(Object.fromEntries(permissions.map(name => [name, null]))).map(name => [name, name])
  )
  const environmentIds = idOf(ids.environments, aliases)

  const permissionId = (name: string): number => {
    const id = permissionIds.get(name)
    if (id === undefined) {
      throw new PermissionUnknown(`The policy defines no permission "${name}"${didYouMean(name, permissions)}`)
    }
    return id
  }
  // Cache the last environment: a service uses the same one again and again.
  let latest = environments[0]!
  let latestId = environmentIds.get(latest)!
  const environmentId = (name: string): number => {
    if (name === latest) return latestId
    const id = environmentIds.get(name)
    if (id === undefined) {
      throw new RangeError(`The policy defines no environment "${name}"${didYouMean(name, aliases.keys())}`)
    }
    latest = name
    latestId = id
    return id
  }
  const questionOf = (roles: readonly string[], environment: string, attributes: Attributes): Question => ({
    attributes, roles, environment, clock
  })
  const decideId = (
    given: RoleSet,
    permission: number,
    environment: number,
    attributes: Attributes = NO_ATTRIBUTES
  ): boolean => {
    const { rows } = given.index === index ? given : sets.renew(given)
    const truth = index.decide(rows, permission, environment)
    if (truth !== IS_UNKNOWN) return truth === IS_TRUE
    return index.decideConditions(
      rows,
      permission,
      environment,
      conditions,
      questionOf(given.roles, ids.environments[environment]!, attributes)
    )
  }

  const policy: Policy = Object.freeze({
    file,
    sha256,
    generation,
    roles: Object.freeze([...roles].map(([name, role]) => Object.freeze({ name, ...role }))),
    permissions,
    resources: Object.freeze([...outline.resources.keys()]),
    environments,
    environmentNames: aliases,
    services: outline.services,
    rules,
    sizeBytes: index.sizeBytes,
    permissionId: (name: string) => permissionIds.get(name),
    environmentId: (name: string) => environmentIds.get(name),
    roleSet: (roles: readonly string[], attributes: Attributes = NO_ATTRIBUTES) => sets.of(roles, attributes),
    decideId,
    decide (roles: readonly string[], permission: string, environment: string, attributes: Attributes = NO_ATTRIBUTES) {
      const id = permissionIds.get(permission)
      // A program must not fail because a policy was reloaded.
      if (id === undefined && ids.permissions.includes(permission)) return false
      return decideId(
        sets.of(roles, attributes),
        id ?? permissionId(permission),
        environmentId(environment),
        attributes
      )
    },
    decider (permission: string, environment: string) {
      const id = permissionIds.get(permission)
      const at = environmentId(environment)
      return id === undefined
        ? null
        : (roles: readonly string[], attributes: Attributes = NO_ATTRIBUTES) =>
            decideId(sets.of(roles, attributes), id, at, attributes)
    },
    decideByCasbin (
      roles: readonly string[],
      permission: string,
      environment: string,
      attributes: Attributes = NO_ATTRIBUTES
    ) {
      permissionId(permission)
      return engine().decide(permission, questionOf(roles, ids.environments[environmentId(environment)]!, attributes))
    },
    explain (
      roles: readonly string[],
      permission: string,
      environment: string,
      attributes: Attributes = NO_ATTRIBUTES
    ) {
      permissionId(permission)
      return explain(
        definition(),
        permission,
        questionOf(roles, ids.environments[environmentId(environment)]!, {
          ...attributes,
          time: attributes.time ?? clock()
        })
      )
    },
    attributesOf (permission: string, environment: string) {
      const read = index
        .conditionsOf(permissionId(permission), environmentId(environment))
        .flatMap(number => conditions[number]!.reads)
      return [...new Set(read.filter(name => name.startsWith('resource.')).map(name => name.slice('resource.'.length)))]
    },
    permissionsOf (roles: readonly string[], environment: string, attributes: Attributes = NO_ATTRIBUTES) {
      const set = sets.of(roles, attributes)
      const at = environmentId(environment)
      return permissions.filter(name => decideId(set, permissionIds.get(name)!, at, attributes))
    },
    rolesThatHold: (wanted: readonly string[]) => rolesAbove(wanted, roles)
  })
  parts.set(policy, {
    outline,
    get definition () {
      return definition()
    },
    index,
    ids
  })
  return policy
}
