import { closest } from '@marty/core'
import type { DecisionState, Policy, PolicyChange } from '@marty/rbac'
import { EXIT, UsageError, type Command } from './command.js'
import { count, readPolicyFile, refuse } from './policy-file.js'

export const policyDiff: Command = {
  name: 'policy diff',
  usage: 'OLD NEW [--fail-on-gain ENVIRONMENT] [--json]',
  summary: 'Tells who gains and who loses what between two policy files',
  options: {
    'fail-on-gain': { type: 'string', multiple: true, help: 'End with 4 when anybody gains, or may gain, in this environment; may be given again' },
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
    const { changes, pairs } = diffPolicies(before.policy, after.policy)
    const gains = changes.filter(({ kind, environments }) => kind !== 'loss' && environments.some(place => places.has(place)))

    if (json) {
      output.out(`${JSON.stringify({ old: oldFile, new: newFile, changes, pairs, gains: gains.length }, null, 2)}\n`)
    } else {
      output.out(changes.length === 0 ? 'no difference\n' : text(changes))
      if (!pairs) output.err('callers with two roles were not compared: the policies have more than 30 roles or service calls\n')
      if (gains.length > 0) output.err(`${count(gains.length, 'possible gain')} in ${guarded.join(', ')}\n`)
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

const SIGNS = { gain: '+', loss: '-', maybe: '~' } as const

function text (changes: readonly PolicyChange[]): string {
  let subject = ''
  return changes.map(change => {
    const { permission, environments, before, after, kind } = change
    const heading = change.subject === subject ? '' : `${subject === '' ? '' : '\n'}${change.subject}\n`
    subject = change.subject
    return `${heading}  ${SIGNS[kind]} ${permission}${conditions(before, after)} (${environments.join(', ')})\n`
  }).join('')
}

function conditions (before: DecisionState, after: DecisionState): string {
  if (typeof before === 'string') return typeof after === 'string' ? '' : ` if ${after.if}${before === 'allowed' ? ', not always' : ''}`
  if (typeof after === 'object') return ` if ${before.if} -> if ${after.if}`
  return after === 'allowed' ? ` always, not only if ${before.if}` : ` if ${before.if}`
}
