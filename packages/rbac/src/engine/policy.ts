import { createHash } from 'node:crypto'
import type { SourceProblem } from '@marty/config'
import { createCasbinEngine, type CasbinEngine } from './casbin-engine.js'
import { TRUE, UNKNOWN, type Attributes, type Question, type Truth } from '../conditions/evaluate.js'
import type { PolicyDefinition, PolicyOutline } from '../model/definition.js'
import { didYouMean } from '../did-you-mean.js'
import { PermissionUnknown, PolicyInvalid } from '../errors.js'
import { explain, type Explanation } from './explain.js'
import { compileIndex, type Ids, type PolicyIndex } from './index.js'
import { readPolicy } from '../parse/policy.js'
import { rolesAbove } from '../model/role-graph.js'
import { createRoleSets, type RoleSet, type RoleSets } from './role-sets.js'
import { selfCheck } from './self-check.js'

/** A role as people ask about it. */
export interface RoleSummary {
  readonly name: string
  readonly description: string | null
  readonly inherits: readonly string[]
}

export interface LoadPolicyOptions {
  /** The generation this one follows: ids of its permissions and environments stay what they are. */
  readonly previous?: Policy
  /** Milliseconds since the epoch, for conditions on the time. @default Date.now */
  readonly clock?: () => number
}

/** One loaded, compiled and checked policy: a generation. Never changes; a new text makes a new one. */
export interface Policy {
  readonly file: string
  /** Of the text, in hexadecimal: tells two policies apart. */
  readonly sha256: string
  /** Counts from 1 along `previous`. */
  readonly generation: number
  readonly roles: readonly RoleSummary[]
  /** Every permission that can be asked for, as `resource:action` or `resource:scope:action`. */
  readonly permissions: readonly string[]
  readonly resources: readonly string[]
  readonly environments: readonly string[]
  /** Names and aliases of environments, to the environment's name. */
  readonly environmentNames: ReadonlyMap<string, string>
  readonly services: readonly string[]
  /** Number of rules the policy was compiled from. */
  readonly rules: number
  /** Size of the compiled tables. */
  readonly sizeBytes: number

  /** Stays the same in every later generation; undefined when the policy defines no such permission. */
  permissionId(name: string): number | undefined
  /** The same for an environment, by name or alias. */
  environmentId(name: string): number | undefined
  /** The caller, looked up once for many decisions; cached for frozen arrays. `attributes` says who it is when services have rules. */
  roleSet(roles: readonly string[], attributes?: Attributes): RoleSet
  /** The fastest way to ask. Ids this generation does not define are denied; a role set of another generation is looked up again. */
  decideId(roleSet: RoleSet, permissionId: number, environmentId: number, attributes?: Attributes): boolean

  /**
   * Whether a caller with these roles is allowed. Default deny; a deny beats every allow. What conditions ask about
   * and `attributes` do not tell never widens. Throws for names of permissions and environments that are unknown;
   * a permission that only an earlier generation defined is denied.
   */
  decide(roles: readonly string[], permission: string, environment: string, attributes?: Attributes): boolean
  /** The same decision with the names looked up beforehand; null when the policy defines no such permission. */
  decider(
    permission: string,
    environment: string
  ): ((roles: readonly string[], attributes?: Attributes) => boolean) | null
  /** The same question answered by Casbin itself: slow, for comparison. */
  decideByCasbin(roles: readonly string[], permission: string, environment: string, attributes?: Attributes): boolean
  /** Why. */
  explain(roles: readonly string[], permission: string, environment: string, attributes?: Attributes): Explanation
  /** Attributes of the resource that a decision may hang on, such as `owner`: what a route has to load before it asks. */
  attributesOf(permission: string, environment: string): readonly string[]
  /** What a caller with these roles is allowed, in the file's order. */
  permissionsOf(roles: readonly string[], environment: string, attributes?: Attributes): readonly string[]
  /** Names of the roles that are one of these or inherit one of them. */
  rolesThatHold(roles: readonly string[]): ReadonlySet<string>
}

/** What a policy was made of, for the tools of this package. */
export interface PolicyParts {
  readonly outline: PolicyOutline
  /** Read from the text when it is asked for, after a reload. */
  readonly definition: PolicyDefinition
  readonly index: PolicyIndex
  readonly ids: Ids
}

const parts = new WeakMap<Policy, PolicyParts>()

export function partsOf (policy: Policy): PolicyParts {
  const found = parts.get(policy)
  if (found === undefined) throw new TypeError('This is no policy that loadPolicy made')
  return found
}

/**
 * Reads, compiles and checks a policy. Throws {@link PolicyInvalid} with every mistake of the text, and when the
 * compiled index does not decide as Casbin does.
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

/** {@link loadPolicy}, knowing of the generation before no more than its ids. */
export function loadAfter (
  text: string,
  file: string,
  before: Ids,
  { clock, generation }: Pick<Made, 'clock' | 'generation'>
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

/** Every mistake of a policy file, for tools. Throws nothing. */
export function checkPolicy (text: string, file: string): { readonly problems: readonly SourceProblem[] } {
  return { problems: readPolicy(text, file).problems }
}

/** Ids only grow: whoever keeps one across a reload can never be answered about another permission. */
function idsAfter (before: Ids, { permissions, environments }: PolicyDefinition): Ids {
  return {
    permissions: Object.freeze([...new Set([...before.permissions, ...permissions])]),
    environments: Object.freeze([...new Set([...before.environments, ...environments])])
  }
}

/** What a policy is made from. What only explanations and comparisons need may be made when it is asked for. */
export interface Made {
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

const NOTHING: Attributes = Object.freeze({})
// What is imported is read from memory and checked at each use; these two are folded into the code of a decision.
const IS_TRUE: Truth = TRUE
const IS_UNKNOWN: Truth = UNKNOWN

export function createPolicy ({
  outline, rules, definition, engine, index, sets, ids, clock, sha256, generation
}: Made): Policy {
  const { file, roles, permissions, environments, aliases, conditions } = outline
  const idOf = (all: readonly string[], names: Iterable<readonly [string, string]>): ReadonlyMap<string, number> => {
    const positions = new Map(all.map((name, id) => [name, id]))
    return new Map([...names].map(([name, target]) => [name, positions.get(target)!]))
  }
  // Keys of an object, because the engine keeps each of those once, like a literal: such texts are compared at a glance.
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
  // A service asks about one environment again and again.
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
    attributes: Attributes = NOTHING
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
    roleSet: (roles: readonly string[], attributes: Attributes = NOTHING) => sets.of(roles, attributes),
    decideId,
    decide (roles: readonly string[], permission: string, environment: string, attributes: Attributes = NOTHING) {
      const id = permissionIds.get(permission)
      // No program must fail because a policy was reloaded.
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
        : (roles: readonly string[], attributes: Attributes = NOTHING) =>
            decideId(sets.of(roles, attributes), id, at, attributes)
    },
    decideByCasbin (
      roles: readonly string[],
      permission: string,
      environment: string,
      attributes: Attributes = NOTHING
    ) {
      permissionId(permission)
      return engine().decide(permission, questionOf(roles, ids.environments[environmentId(environment)]!, attributes))
    },
    explain (roles: readonly string[], permission: string, environment: string, attributes: Attributes = NOTHING) {
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
    permissionsOf (roles: readonly string[], environment: string, attributes: Attributes = NOTHING) {
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
