import { closest } from '@marty/core'
import type { Attributes, ExplainedRule, Policy } from '@marty/rbac'
import { EXIT, UsageError, type Command } from './command.js'
import { readPolicyFile, refuse } from './policy-file.js'

export const policyExplain: Command = {
  name: 'policy explain',
  usage: '--file FILE [--role ROLE ...] --permission PERMISSION --environment ENVIRONMENT [--attributes JSON] [--json]',
  summary: 'Explains whether a caller with these roles is allowed a permission, and which rule decides',
  options: {
    file: { type: 'string', required: true, help: 'The policy file' },
    role: { type: 'string', multiple: true, help: 'A role of the caller; can be repeated' },
    permission: { type: 'string', required: true, help: 'The requested permission, such as camera:view' },
    environment: { type: 'string', required: true, help: 'The environment, by name or alias' },
    attributes: {
      type: 'string',
      help: 'The attributes that conditions read: ' +
        '{"principal":{"id":"ada"},"resource":{"owner":"ada"},"service":"storage","time":"2025-01-31T08:00Z"}'
    },
    json: { type: 'boolean', help: 'Write the result as JSON' }
  },
  positionals: [],
  async run (_positionals, values, output) {
    const {
      file,
      role: roles = [],
      permission,
      environment,
      json
    } = values as { file: string, role?: string[], permission: string, environment: string, json?: boolean }
    const attributes = readAttributes(values.attributes as string | undefined)
    const { policy, problems } = await readPolicyFile(file)
    if (policy === null) return refuse(file, problems, json === true, output)
    verifyNames(policy, roles, permission, environment)
    const explanation = policy.explain(roles, permission, environment, attributes)
    if (json === true) {
      output.out(
        `${JSON.stringify({ file, roles, permission, environment: policy.environmentNames.get(environment), ...explanation }, null, 2)}\n`
      )
    } else {
      const { allowed, reason, rule, others } = explanation
      output.out(
        `${allowed ? 'allowed' : 'denied'}: ${reason}\n${rule === undefined ? '' : tellRule(rule)}` +
          others
            .map(other => `not deciding: ${other.role} ${other.effect} ${other.permission}\n${tellRule(other)}`)
            .join('')
      )
    }
    return EXIT.ok
  }
}

/** The position of a rule, and the values its condition read. */
function tellRule ({ where, condition }: ExplainedRule): string {
  if (condition === undefined) return `  ${where}\n`
  const values = Object.entries(condition.values).map(
    ([name, value]) => `${name} is ${value === undefined ? 'missing' : JSON.stringify(value)}`
  )
  return `  ${where}\n  if ${condition.text}: ${condition.result} (${values.join(', ')})\n`
}

function readAttributes (text: string | undefined): Attributes {
  if (text === undefined) return {}
  try {
    const { time, ...attributes } = JSON.parse(text) as Attributes & { readonly time?: string | number }
    return time === undefined ? attributes : { ...attributes, time: new Date(time).getTime() }
  } catch {
    throw new UsageError('--attributes must be a JSON object, such as {"resource":{"owner":"ada"}}')
  }
}

/** Refuses unknown names: a misspelt one would be explained as a denial. */
function verifyNames (policy: Policy, roles: readonly string[], permission: string, environment: string): void {
  const known: ReadonlyArray<readonly [string, readonly string[], readonly string[]]> = [
    ['role', roles, policy.roles.map(({ name }) => name)],
    ['permission', [permission], policy.permissions],
    ['environment', [environment], [...policy.environmentNames.keys()]]
  ]
  for (const [what, given, names] of known) {
    for (const name of given) {
      if (names.includes(name)) continue
      const near = closest(name, names)
      throw new UsageError(
        `${policy.file} defines no ${what} "${name}"${near === null ? '' : `; did you mean "${near}"?`}`
      )
    }
  }
}
