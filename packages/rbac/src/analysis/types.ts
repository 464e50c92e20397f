import { basename } from 'node:path'
import type { Policy } from '../engine/policy.js'

/**
 * Generates a declaration file with the names of a policy, so that a misspelt permission in
 * `config.security` does not compile. Commit the file, and include it in the project that uses the policy.
 */
export function policyTypes (policy: Policy): string {
  const union = (names: readonly string[]): string => names.map(name => `\n      | '${name}'`).join('')
  const file = basename(policy.file)
  return `// Generated from ${file}. Change that file, then run: marty policy types ${file} --out FILE
import '@marty/rbac'

declare module '@marty/rbac' {
  interface PermissionRegister {
    role:${union(policy.roles.map(({ name }) => name))}
    resource:${union(policy.resources)}
    permission:${union(policy.permissions)}
  }
}
`
}
