import { closest } from '@marty/core'
import type { DecisionState, IncompleteComparison, Policy, PolicyChange } from '@marty/rbac'
import { EXIT, UsageError, type Command } from './command.js'
import { count, readPolicyFile, refuse } from './policy-file.js'

const SIGNS: Readonly<Record<PolicyChange['kind'], string>> = { gain: '+', loss: '-', maybe: '~' }

export const policyDiff: Command = {
  name: 'policy diff',
  usage: 'OLD NEW [--fail-on-gain ENVIRONMENT] [--json]',
  summary: 'Shows which callers gain (+), lose (-), or may gain or lose (~) permissions between two policy files',
  options: {
    'fail-on-gain': {
      type: 'string',
      multiple: true,
      help: 'Exit with 4 when a caller gains, or may gain, in this environment (name or alias); can be repeated'
    },
    json: { type: 'boolean', help: 'Write the result as JSON' }
  },
  positionals: ['OLD', 'NEW'],
  async run ([oldFile = '', newFile = ''], values, output) {
    const { 'fail-on-gain': guarded = [], json = false } = values as {
      'fail-on-gain'?: readonly string[]
      json?: boolean
    }
    const [before, after] = [await readPolicyFile(oldFile), await readPolicyFile(newFile)]
    if (before.policy === null) return refuse(oldFile, before.problems, json, output)
    if (after.policy === null) return refuse(newFile, after.problems, json, output)
    const places = new Set(guarded.flatMap(name => placesNamed(name, before.policy, after.policy)))
    const { diffPolicies } = await import('@marty/rbac')
    const { changes, incomplete } = diffPolicies(before.policy, after.policy)
    const isGuarded = ({ environments }: { readonly environments: readonly string[] }): boolean =>
      environments.some(place => places.has(place))
    const gains = changes.filter(({ kind }) => kind === 'gain').filter(isGuarded).length
    // A combination that was not compared may be a gain too.
    const possible =
      changes.filter(({ kind }) => kind === 'maybe').filter(isGuarded).length + incomplete.filter(isGuarded).length

    if (json) {
      output.out(
        `${JSON.stringify({ old: oldFile, new: newFile, changes, incomplete, gains, possibleGains: possible }, null, 2)}\n`
      )
    } else {
      output.out(
        changes.length + incomplete.length === 0
          ? 'Nobody gains or loses anything.\n'
          : bySubject(changes) + notTold(incomplete)
      )
      const told = [
        ...(gains > 0 ? [count(gains, 'gain')] : []),
        ...(possible > 0 ? [count(possible, 'possible gain')] : [])
      ]
      if (told.length > 0) output.err(`${told.join(' and ')} in ${guarded.join(', ')}\n`)
    }
    return gains + possible === 0 ? EXIT.ok : EXIT.testFailed
  }
}

/**
 * The environments that a name refers to in either policy: a
 * moved alias stands for itself and for both environments.
 */
function placesNamed (name: string, before: Policy, after: Policy): readonly string[] {
  const meant = [before, after].flatMap(({ environmentNames }) => environmentNames.get(name) ?? [])
  if (meant.length > 0) return [name, ...meant]
  const known = new Set([before, after].flatMap(({ environmentNames }) => [...environmentNames.keys()]))
  const near = closest(name, known)
  throw new UsageError(
    `neither policy defines an environment "${name}"; ` +
      `${near === null ? `they define ${[...known].join(', ')}` : `did you mean "${near}"?`}`
  )
}

function bySubject (changes: readonly PolicyChange[]): string {
  const lines: string[] = []
  let subject = ''
  for (const change of changes) {
    if (change.subject !== subject) lines.push(`${lines.length === 0 ? '' : '\n'}${subject = change.subject}`)
    const { kind, permission, environments, before, after } = change
    const how = [before, after].some(state => typeof state === 'object')
      ? `: ${inWords(before)} -> ${inWords(after)}`
      : ''
    lines.push(`  ${SIGNS[kind]} ${permission} (${environments.join(', ')})${how}`)
  }
  return `${lines.join('\n')}\n`
}

/** On one line, whatever strings the policy contains, so that no string can imitate another line of output. */
function inWords (state: DecisionState): string {
  return typeof state === 'string' ? state : `if ${state.if.replaceAll(/\s/g, ' ')}`
}

function notTold (incomplete: readonly IncompleteComparison[]): string {
  if (incomplete.length === 0) return ''
  const lines = incomplete.map(
    ({ permission, environments, upTo }) =>
      `  ? ${permission} (${environments.join(', ')}): complete for callers with up to ${count(upTo, 'role')}\n`
  )
  return `\ntoo many combinations of roles to compare or to list all of them\n${lines.join('')}`
}
