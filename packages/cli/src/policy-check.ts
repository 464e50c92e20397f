import { formatProblem } from '@marty/config'
import { EXIT, type Command } from './command.js'
import { count, readPolicyFile, refuse } from './policy-file.js'

export const policyCheck: Command = {
  name: 'policy check',
  usage: 'FILE [--strict] [--json]',
  summary:
    'Tells every mistake of a policy file, what is probably not meant, and whether Casbin and the compiled index agree on it',
  options: {
    strict: { type: 'boolean', help: 'Exit with 3 for warnings too' },
    json: { type: 'boolean', help: 'Write the result as JSON' }
  },
  positionals: ['FILE'],
  async run ([file = ''], { json = false, strict = false }, output) {
    const { policy, problems } = await readPolicyFile(file)
    if (policy === null) return refuse(file, problems, json === true, output)
    const { sha256, roles, permissions, environments, rules } = policy
    const { lintPolicy } = await import('@marty/rbac')
    const findings = lintPolicy(policy)
    if (json === true) {
      const names = { roles: roles.map(({ name }) => name), permissions, environments }
      output.out(
        `${JSON.stringify({ file, valid: true, problems: [], findings, sha256, ...names, rules }, null, 2)}\n`
      )
    } else {
      for (const { rule, message, ...where } of findings) {
        output.err(`${formatProblem({ ...where, message: `warning: ${message} (${rule})` })}\n`)
      }
      output.out(
        `${file} is valid: ${count(roles.length, 'role')}, ${count(permissions.length, 'permission')}, ` +
          `${count(rules, 'rule')}, ${count(environments.length, 'environment')}` +
          `${findings.length === 0 ? '' : `; ${count(findings.length, 'warning')}`}\n`
      )
    }
    return strict === true && findings.length > 0 ? EXIT.invalid : EXIT.ok
  }
}
