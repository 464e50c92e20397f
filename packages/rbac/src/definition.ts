import type { Path, SourcePosition } from '@marty/config'
import type { Effect, PermissionParts } from './permission.js'

/** A policy as it was meant: names resolved, every reference known to exist. */
export interface PolicyDefinition {
  readonly file: string
  readonly resources: ReadonlyMap<string, ResourceDefinition>
  readonly roles: ReadonlyMap<string, RoleDefinition>
  /** Names of the environments; see `aliases` for their other names. */
  readonly environments: readonly string[]
  /** Every name and alias, to the environment's name. */
  readonly aliases: ReadonlyMap<string, string>
  readonly rules: readonly Rule[]
  /** Every permission that can be asked for, in the file's order. */
  readonly permissions: readonly string[]
  positionOf (path: Path): SourcePosition
}

export interface ResourceDefinition {
  readonly description: string | null
  readonly actions: readonly string[]
  readonly scopes: readonly string[]
}

export interface RoleDefinition {
  readonly description: string | null
  readonly inherits: readonly string[]
}

/** One grant or one deny. */
export interface Rule extends PermissionParts {
  readonly role: string
  /** An environment's name, or `*` for every one. */
  readonly environment: string
  readonly effect: Effect
  readonly reason: string | null
  /** Where the file says so. */
  readonly path: Path
}
