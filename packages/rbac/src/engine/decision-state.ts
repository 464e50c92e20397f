import { TRUE, UNKNOWN, type Attributes } from '../conditions/evaluate.js'
import { ANYONE, serviceSubject, subjectName } from '../model/definition.js'
import { formulaOf, join, type Formula } from '../analysis/formula.js'
import type { Conditional, Rows } from './index.js'
import { partsOf, type Policy } from './policy.js'
import { rolesAbove } from '../model/role-graph.js'

/**
 * What a caller may do, before anything about the request is known. `if` is one condition in a normal
 * form: the decision is allow if it is true, and deny if it is false or depends on a missing attribute.
 */
export type DecisionState = 'allowed' | 'denied' | { readonly if: string }

export function stateOf (formula: Formula): DecisionState {
  return typeof formula === 'boolean' ? (formula ? 'allowed' : 'denied') : { if: formula.text }
}

/** Finds out what the decisions of a policy depend on. */
export interface Weigher {
  /**
   * Returns the condition of each of a caller's decisions;
   * `false` for names that the policy does not define.
   */
  of (roles: readonly string[], attributes?: Attributes): (permission: string, environment: string) => Formula
  /**
   * All statements about a permission in an environment. If two policies have the same statements, they
   * make the same decision for every caller.
   */
  voicesOn (permission: string, environment: string): readonly Voice[]
}

/** The statement that one row of the index makes about callers. */
export interface Voice {
  readonly kind: 'holder' | 'separation' | 'requirement' | 'anyone'
  /** The callers it is about, independent of the number that the policy gave the subject. */
  readonly subject: string
  /** The content of the statement. */
  readonly text: string
  readonly allows: boolean
  readonly denies: boolean
  /** The roles and calls that it depends on, each with its part in the statement. */
  readonly members: ReadonlyMap<string, string>
}

/** The name for a service's calls to another, used alongside the names of roles. */
export function callName (caller: string, callee: string): string {
  return `${caller} calls ${callee}`
}

export function createWeigher (policy: Policy): Weigher {
  const { definition: { conditions }, index } = partsOf(policy)
  const formulas = new Map<string, Formula>()
  const weighed = new Map<string, Formula>()
  /**
   * The formula under which an allow applies, or under which a deny does not: a deny applies unless its
   * condition is false.
   */
  const formula = ({ condition, effect }: Conditional, environment: string): Formula => {
    const key = `${condition} ${effect} ${environment}`
    let known = formulas.get(key)
    if (known === undefined) {
      formulas.set(
        key,
        (known = formulaOf(conditions[condition]!.expression, effect === 'allow', environment, policy.environmentNames))
      )
    }
    return known
  }
  const speakers = speakersOf(policy)

  return {
    of (roles, attributes) {
      const { rows } = policy.roleSet(roles, attributes)
      return (permission, environment) => {
        const id = policy.permissionId(permission)
        const at = policy.environmentId(environment)
        if (id === undefined || at === undefined) return false
        const truth = index.decide(rows, id, at)
        if (truth !== UNKNOWN) return truth === TRUE
        const { allowed, rules } = index.conditionalsOf(rows, id, at)
        const name = policy.environmentNames.get(environment)!
        const key = `${name} ${allowed} ${rules.map(({ effect, condition }) => effect + condition).join(' ')}`
        let all = weighed.get(key)
        if (all === undefined) {
          const ofEffect = (wanted: string): readonly Formula[] =>
            rules.filter(({ effect }) => effect === wanted).map(rule => formula(rule, name))
          weighed.set(key, all = join('and', [join('or', [allowed, ...ofEffect('allow')]), ...ofEffect('deny')]))
        }
        return all
      }
    },
    voicesOn (permission, environment) {
      const id = policy.permissionId(permission)
      const at = policy.environmentId(environment)
      if (id === undefined || at === undefined) return []
      const name = policy.environmentNames.get(environment)!
      const voices: Voice[] = []
      for (const { kind, subject, members, rows } of speakers) {
        const { allowed, denied, rules } = index.conditionalsOf(rows, id, at)
        if (!allowed && !denied && rules.length === 0) continue
        const texts = rules.map(rule => `${rule.effect} ${textOf(formula(rule, name))}`)
        voices.push({
          kind,
          subject,
          members,
          text: [allowed, denied, ...new Set(texts.sort())].join('\n'),
          allows: allowed || rules.some(({ effect }) => effect === 'allow'),
          denies: denied || rules.some(({ effect }) => effect === 'deny')
        })
      }
      return voices
    }
  }
}

/** Returns `true`, `false`, or the condition. */
export function textOf (formula: Formula): string {
  return typeof formula === 'boolean' ? String(formula) : formula.text
}

type Speaker = Pick<Voice, 'kind' | 'subject' | 'members'> & { readonly rows: Rows }

function speakersOf (policy: Policy): readonly Speaker[] {
  const { definition: { roles, rules, separations, requirements }, index } = partsOf(policy)
  const holders = (wanted: readonly string[]): readonly string[] => [...rolesAbove(wanted, roles)].sort()
  const speakers: Speaker[] = []
  const add = (name: string, kind: Voice['kind'], subject: string, members: ReadonlyMap<string, string>): void => {
    const id = index.subjects.get(name)
    if (id !== undefined) speakers.push({ kind, subject, members, rows: index.rowsOf([id]) })
  }
  for (const role of roles.keys()) add(role, 'holder', role, new Map([[role, '']]))
  const calls = new Map(
    rules.flatMap(({ subject }) =>
      subject.kind === 'service'
        ? [[serviceSubject(subject.caller, subject.callee), callName(subject.caller, subject.callee)] as const]
        : []
    )
  )
  for (const [name, call] of calls) add(name, 'holder', call, new Map([[call, '']]))
  add(ANYONE, 'anyone', ANYONE, new Map())
  for (const [separation, { roles: apart }] of separations.entries()) {
    const members = new Map<string, string>()
    for (const [at, role] of apart.entries()) {
      for (const holder of holders([role])) members.set(holder, `${members.get(holder) ?? ''} ${at}`)
    }
    add(subjectName({ kind: 'separated', separation }), 'separation', JSON.stringify([...members]), members)
  }
  for (const [requirement, needed] of requirements.entries()) {
    const members = new Map(holders(needed).map(holder => [holder, '']))
    add(subjectName({ kind: 'lacking', requirement }), 'requirement', JSON.stringify([...members.keys()]), members)
  }
  return speakers
}
