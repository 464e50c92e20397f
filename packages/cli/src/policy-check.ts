import { EXIT, type Command } from './command.js'
import { count, readPolicyFile, refuse } from './policy-file.js'

export const policyCheck: Command = {
  name: 'policy check',
  usage: 'FILE [--json]',
  summary: 'Tells every mistake of a policy file, and whether Casbin and the compiled index agree on it',
  options: { json: { type: 'boolean', help: 'Write the result as JSON' } },
  positionals: ['FILE'],
  async run ([file = ''], { json = false }, output) {
    const { policy, problems } = await readPolicyFile(file)
    if (policy === null) return refuse(file, problems, json === true, output)
    const { sha256, roles, permissions, environments, rules } = policy
    if (json === true) output.out(`${JSON.stringify({ file, valid: true, problems: [], sha256, roles: roles.map(({ name }) => name), permissions, environments, rules }, null, 2)}\n`)
    else output.out(`${file} is valid: ${count(roles.length, 'role')}, ${count(permissions.length, 'permission')}, ${count(rules, 'rule')}, ${count(environments.length, 'environment')}\n`)
    return EXIT.ok
  }
}
