import type { Path, SourcePosition } from '@marty/config'
import type { Condition } from '../conditions/evaluate.js'
import type { AttributeType } from '../conditions/types.js'
import type { Effect, PermissionParts } from './permission.js'

/** What deciding needs of a policy besides its compiled rules. */
export interface PolicyOutline {
  readonly file: string
  readonly resources: ReadonlyMap<string, ResourceDefinition>
  readonly roles: ReadonlyMap<string, RoleDefinition>
  /** Names of the environments; see `aliases` for their other names. */
  readonly environments: readonly string[]
  /** Every name and alias, to the environment's name. */
  readonly aliases: ReadonlyMap<string, string>
  readonly services: readonly string[]
  /** Roles that must not be held together, by the number that subjects refer to. */
  readonly separations: readonly Separation[]
  /** Roles of which a caller needs one, by the number that subjects refer to. */
  readonly requirements: ReadonlyArray<readonly string[]>
  /** By the number that rules refer to. */
  readonly conditions: readonly Condition[]
  /** Every permission that can be asked for, in the file's order. */
  readonly permissions: readonly string[]
}

/** A policy as it was meant: names resolved, every reference known to exist. */
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
  /** An environment's name, or `*` for every one. */
  readonly environment: string
  readonly effect: Effect
  /** Number of the condition it hangs on; null when it always applies. */
  readonly condition: number | null
  readonly reason: string | null
  /** Where the file says so. */
  readonly path: Path
}

/** Whom a rule speaks of. All but the roles are worked out from the caller, and nobody can be given them. */
export type Subject = { readonly kind: 'role', readonly role: string } |
  /** The service `caller`, while it calls `callee`. */
  { readonly kind: 'service', readonly caller: string, readonly callee: string } |
  /** Who holds two roles of a separation, itself or through inheritance. */
  { readonly kind: 'separated', readonly separation: number } |
  /** Who holds none of the roles of a requirement, neither itself nor through inheritance. */
  { readonly kind: 'lacking', readonly requirement: number } |
  { readonly kind: 'anyone' }

/** The name Casbin knows a subject by. No role can have such a name, but for the first kind. */
export function subjectName (subject: Subject): string {
  switch (subject.kind) {
    case 'role': return subject.role
    case 'service': return serviceSubject(subject.caller, subject.callee)
    case 'separated': return `separated:${subject.separation}`
    case 'lacking': return `lacking:${subject.requirement}`
    case 'anyone': return ANYONE
  }
}

export const ANYONE = '*'

export function serviceSubject (caller: string, callee: string): string {
  return `svc:${caller}>${callee}`
}
