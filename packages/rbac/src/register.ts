/**
 * The names that the policy defines, for the TypeScript compiler. The file that `policyTypes` generates
 * adds `permission`, `role` and `resource` unions to this interface, so that a misspelt name does not
 * compile. Without that file every name is a `string`.
 */
export interface PermissionRegister {}

/** `resource:action`, or `resource:scope:action`. */
export type Permission = PermissionRegister extends { permission: infer Name extends string } ? Name : string

export type Role = PermissionRegister extends { role: infer Name extends string } ? Name : string

export type Resource = PermissionRegister extends { resource: infer Name extends string } ? Name : string
