import type { Path, SourcePosition } from '@marty/config'
import type { Condition } from '../conditions/evaluate.js'
import type { AttributeType } from '../conditions/types.js'
import type { Effect, PermissionParts } from './permission.js'

/** The parts of a policy that decisions need, besides its compiled rules. */
export interface PolicyOutline {
  readonly file: string
  readonly resources: ReadonlyMap<string, ResourceDefinition>
  readonly roles: ReadonlyMap<string, RoleDefinition>
  /** Names of the environments; `aliases` holds their other names. */
  readonly environments: readonly string[]
  /** Maps every name and alias to the environment's name. */
  readonly aliases: ReadonlyMap<string, string>
  readonly services: readonly string[]
  /** Roles that must not be held together, indexed by the number that subjects refer to. */
  readonly separations: readonly Separation[]
  /** Lists of roles of which a caller needs one, indexed by the number that subjects refer to. */
  readonly requirements: ReadonlyArray<readonly string[]>
  /** Conditions, indexed by the number that rules refer to. */
  readonly conditions: readonly Condition[]
  /** Every permission that can be requested, in the order of the file. */
  readonly permissions: readonly string[]
}

/** A policy with all names resolved; every reference is known to exist. */
export interface PolicyDefinition extends PolicyOutline {
  readonly rules: readonly Rule[]
  positionOf (path: Path, part?: 'key' | 'value'): SourcePosition
}

export interface ResourceDefinition {
  readonly description: string | null
  readonly actions: readonly string[]
  readonly scopes: readonly string[]
  readonly attributes: ReadonlyMap<string, AttributeType>
}

export interface RoleDefinition {
  readonly description: string | null
  readonly inherits: readonly string[]
}

export interface Separation {
  readonly roles: readonly string[]
  readonly reason: string | null
}

/** One grant or one deny. */
export interface Rule extends PermissionParts {
  readonly subject: Subject
  /** The name of an environment, or `*` for all of them. */
  readonly environment: string
  readonly effect: Effect
  /** Number of the rule's condition; null if the rule always applies. */
  readonly condition: number | null
  readonly reason: string | null
  /** The place of the rule in the file. */
  readonly path: Path
}

/**
 * The callers that a rule applies to. All kinds but roles are
 * derived from the caller and cannot be assigned.
 */
export type Subject = { readonly kind: 'role', readonly role: string } |
  /** The service `caller`, while it calls `callee`. */
  { readonly kind: 'service', readonly caller: string, readonly callee: string } |
  /** A caller who holds two roles of a separation, directly or through inheritance. */
  { readonly kind: 'separated', readonly separation: number } |
  /** A caller who holds none of the roles of a requirement, neither directly nor through inheritance. */
  { readonly kind: 'unmet', readonly requirement: number } |
  { readonly kind: 'anyone' }

/** The name of a subject in Casbin. Only subjects of the kind `role` can have the name of a role. */
export function subjectName (subject: Subject): string {
  switch (subject.kind) {
    case 'role': return subject.role
    case 'service': return serviceSubject(subject.caller, subject.callee)
    case 'separated': return `separated:${subject.separation}`
    case 'unmet': return `unmet:${subject.requirement}`
    case 'anyone': return ANYONE
  }
}

export const ANYONE = '*'

export function serviceSubject (caller: string, callee: string): string {
  return `svc:${caller}>${callee}`
}
