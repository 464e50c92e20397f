import { closest } from '@marty/core'
import type { DecisionState, Policy, PolicyChange } from '@marty/rbac'
import { EXIT, UsageError, type Command } from './command.js'
import { count, readPolicyFile, refuse } from './policy-file.js'

const SIGNS: Readonly<Record<PolicyChange['kind'], string>> = { gain: '+', loss: '-', maybe: '~' }

export const policyDiff: Command = {
  name: 'policy diff',
  usage: 'OLD NEW [--fail-on-gain ENVIRONMENT] [--json]',
  summary: 'Tells who gains (+), who loses (-) and who may gain or lose (~) what from one policy file to another',
  options: {
    'fail-on-gain': { type: 'string', multiple: true, help: 'End with 4 when anybody gains, or may gain, in this environment, by name or alias; may be given again' },
    json: { type: 'boolean', help: 'Write the result as JSON' }
  },
  positionals: ['OLD', 'NEW'],
  async run ([oldFile = '', newFile = ''], values, output) {
    const { 'fail-on-gain': guarded = [], json = false } = values as { 'fail-on-gain'?: readonly string[], json?: boolean }
    const [before, after] = [await readPolicyFile(oldFile), await readPolicyFile(newFile)]
    if (before.policy === null) return refuse(oldFile, before.problems, json, output)
    if (after.policy === null) return refuse(newFile, after.problems, json, output)
    const places = new Set(guarded.flatMap(name => placesNamed(name, before.policy, after.policy)))
    const { diffPolicies } = await import('@marty/rbac')
    const { changes, comparedUpTo } = diffPolicies(before.policy, after.policy)
    const gains = changes.filter(({ kind, environments }) => kind !== 'loss' && environments.some(place => places.has(place)))

    if (json) {
      output.out(`${JSON.stringify({ old: oldFile, new: newFile, changes, comparedUpTo, gains: gains.length }, null, 2)}\n`)
    } else {
      output.out(changes.length === 0 ? 'Nobody gains or loses anything.\n' : bySubject(changes))
      if (comparedUpTo !== null) output.err(`not every set of roles was compared: callers with more than ${count(comparedUpTo, 'role')} may gain or lose what is not told\n`)
      if (gains.length > 0) output.err(`${countGains(gains)} in ${guarded.join(', ')}\n`)
    }
    return gains.length === 0 ? EXIT.ok : EXIT.testFailed
  }
}

/** What a name means in either policy: a moved alias stands for itself and for both environments. */
function placesNamed (name: string, before: Policy, after: Policy): readonly string[] {
  const meant = [before, after].flatMap(({ environmentNames }) => environmentNames.get(name) ?? [])
  if (meant.length > 0) return [name, ...meant]
  const known = new Set([before, after].flatMap(({ environmentNames }) => [...environmentNames.keys()]))
  const near = closest(name, known)
  throw new UsageError(`neither policy defines an environment "${name}"; ${near === null ? `they define ${[...known].join(', ')}` : `did you mean "${near}"?`}`)
}

function bySubject (changes: readonly PolicyChange[]): string {
  const lines: string[] = []
  let subject = ''
  for (const change of changes) {
    if (change.subject !== subject) lines.push(`${lines.length === 0 ? '' : '\n'}${subject = change.subject}`)
    const { kind, permission, environments, before, after } = change
    const how = [before, after].some(state => typeof state === 'object') ? `: ${inWords(before)} -> ${inWords(after)}` : ''
    lines.push(`  ${SIGNS[kind]} ${permission} (${environments.join(', ')})${how}`)
  }
  return `${lines.join('\n')}\n`
}

function inWords (state: DecisionState): string {
  return typeof state === 'string' ? state : `if ${state.if}`
}

function countGains (gains: readonly PolicyChange[]): string {
  const certain = gains.filter(({ kind }) => kind === 'gain').length
  const numbers = [[certain, 'gain'], [gains.length - certain, 'possible gain']] as const
  return numbers.filter(([number]) => number > 0).map(([number, what]) => count(number, what)).join(' and ')
}
