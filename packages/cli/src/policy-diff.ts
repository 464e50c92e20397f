import { closest } from '@marty/core'
import type { Policy, PolicyChange } from '@marty/rbac'
import { EXIT, UsageError, type Command } from './command.js'
import { count, readPolicyFile, refuse } from './policy-file.js'

const SIGNS: Readonly<Record<PolicyChange['kind'], string>> = { gain: '+', loss: '-', maybe: '~' }

export const policyDiff: Command = {
  name: 'policy diff',
  usage: 'OLD NEW [--fail-on-gain ENVIRONMENT] [--json]',
  summary: 'Tells who gains (+), who loses (-) and who may gain (~) what from one policy file to another',
  options: {
    'fail-on-gain': { type: 'string', help: 'End with 4 when anybody gains or may gain anything in this environment, by name or alias' },
    json: { type: 'boolean', help: 'Write the result as JSON' }
  },
  positionals: ['OLD', 'NEW'],
  async run ([old = '', now = ''], { json = false, 'fail-on-gain': guarded }, output) {
    const before = await readPolicyFile(old)
    if (before.policy === null) return refuse(old, before.problems, json === true, output)
    const after = await readPolicyFile(now)
    if (after.policy === null) return refuse(now, after.problems, json === true, output)
    const environments = guarded === undefined ? [] : environmentsOf(guarded as string, [before.policy, after.policy])
    const { diffPolicies } = await import('@marty/rbac')
    const changes = diffPolicies(before.policy, after.policy)
    const gains = changes.filter(change => change.kind !== 'loss' && change.environments.some(name => environments.includes(name)))

    if (json === true) output.out(`${JSON.stringify({ old, new: now, changes, gains: gains.length }, null, 2)}\n`)
    else output.out(changes.length === 0 ? 'Nobody gains or loses anything.\n' : bySubject(changes))
    if (gains.length === 0) return EXIT.ok
    if (json !== true) output.err(`${count(gains.length, 'gain')} in ${guarded as string}\n`)
    return EXIT.testFailed
  }
}

/** What the name means in either policy: an alias that moved is looked at on both sides. */
function environmentsOf (name: string, policies: readonly Policy[]): readonly string[] {
  const found = policies.flatMap(({ environmentNames }) => environmentNames.get(name) ?? [])
  if (found.length > 0) return found
  const near = closest(name, policies.flatMap(({ environmentNames }) => [...environmentNames.keys()]))
  throw new UsageError(`neither policy defines an environment "${name}"${near === null ? '' : `; did you mean "${near}"?`}`)
}

function bySubject (changes: readonly PolicyChange[]): string {
  const lines: string[] = []
  let subject = ''
  for (const change of changes) {
    if (change.subject !== subject) lines.push(`${lines.length === 0 ? '' : '\n'}${subject = change.subject}`)
    const { kind, permission, environments, before, after } = change
    const how = [before, after].some(standing => standing.startsWith('if')) ? `: ${before} -> ${after}` : ''
    lines.push(`  ${SIGNS[kind]} ${permission} (${environments.join(', ')})${how}`)
  }
  return `${lines.join('\n')}\n`
}
