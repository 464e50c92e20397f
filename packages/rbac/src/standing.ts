import { TRUE, UNKNOWN } from './condition.js'
import type { Condition, Question } from './condition.js'
import { spokenRules } from './explain.js'
import { partsOf, type Policy } from './policy.js'

/** Somebody a policy can be asked about, without knowing anything else of them. */
export type Standee = { readonly roles: readonly string[] } | { readonly caller: string, readonly callee: string }

/** How somebody stands with a permission: allowed, denied, or allowed if a condition holds. */
export type Standing = { readonly state: 'allow' | 'deny' } | {
  readonly state: 'if'
  /** What has to hold, in the words of the policy. */
  readonly condition: string
  /** The conditions it is made of. */
  readonly conditions: readonly Condition[]
}

export const DENIED: Standing = Object.freeze({ state: 'deny' })
const ALLOWED: Standing = Object.freeze({ state: 'allow' })

/** Reads the compiled policy, and the rules themselves only where conditions decide. `environment` is its name. */
export function standingOf (policy: Policy, who: Standee, permission: string, environment: string): Standing {
  const { index, definition } = partsOf(policy)
  const roles = 'roles' in who ? who.roles : []
  const attributes: Question['attributes'] = 'roles' in who ? {} : { principal: { kind: 'service', id: who.caller }, service: who.callee }
  const truth = index.decide(policy.roleSet(roles, attributes).rows, policy.permissionId(permission)!, policy.environmentId(environment)!)
  if (truth !== UNKNOWN) return truth === TRUE ? ALLOWED : DENIED
  const allows: Array<Condition | null> = []
  const denies: Condition[] = []
  for (const { rule: { effect, condition } } of spokenRules(definition, permission, { roles, environment, attributes, clock: Date.now })) {
    if (effect === 'allow') allows.push(condition === null ? null : definition.conditions[condition]!)
    // An unconditional deny would have been an answer already.
    else denies.push(definition.conditions[condition!]!)
  }
  if (allows.length === 0) return DENIED
  if (allows.includes(null) && denies.length === 0) return ALLOWED
  const texts = (conditions: readonly Condition[]): readonly string[] => [...new Set(conditions.map(({ text }) => text))].sort()
  const needed = allows.includes(null) ? [] : allows as Condition[]
  const parts = [
    ...(needed.length === 0 ? [] : [joined(texts(needed), 'or')]),
    ...texts(denies).map(negated)
  ]
  return { state: 'if', condition: joined(parts, 'and'), conditions: [...needed, ...denies] }
}

/** What is required is a deny of its opposite: two negations are told as none. */
function negated (text: string): string {
  if (!text.startsWith('not (')) return `not (${text})`
  let depth = 0
  let quote = ''
  for (let at = 4; at < text.length; at++) {
    const character = text[at]!
    if (quote !== '') {
      if (character === '\\') at++
      else if (character === quote) quote = ''
    } else if (character === '"' || character === "'") {
      quote = character
    } else {
      depth += character === '(' ? 1 : character === ')' ? -1 : 0
      if (depth === 0) return at === text.length - 1 ? text.slice(5, -1) : `not (${text})`
    }
  }
  return `not (${text})`
}

function joined (texts: readonly string[], by: 'and' | 'or'): string {
  return texts.length === 1 ? texts[0]! : texts.map(text => by === 'and' && text.startsWith('not (') ? text : `(${text})`).join(` ${by} `)
}
