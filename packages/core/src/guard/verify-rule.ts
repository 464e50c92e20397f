import { closest } from '../did-you-mean.js'
import { RuleInvalid } from '../errors.js'
import type { Check } from './operation.js'
import type { AuthenticationMethod } from '../principal.js'
import type { SecurityRule } from '../rule.js'

const OWN_KEYS = ['public', 'authenticate']
const METHODS: readonly AuthenticationMethod[] = ['jwt', 'apiKey', 'session', 'mtls']

/** Refuses a rule that cannot be enforced as written: a misspelt member must never widen access. */
export function verifyRule (
  rule: SecurityRule,
  where: string,
  checks: readonly Check[],
  available: readonly AuthenticationMethod[]
): void {
  const understood = [...OWN_KEYS, ...checks.flatMap(check => check.keys)]
  for (const key of Object.keys(rule)) {
    if (understood.includes(key)) continue
    const near = closest(key, understood)
    throw new RuleInvalid(
      `${where}: no registered plugin understands security.${key}` + (near === null ? '' : `; did you mean "${near}"?`)
    )
  }
  const asksWho = [
    ...checks.filter(check => check.stage === 'authorize').flatMap(check => check.keys),
    'authenticate'
  ].filter(key => (rule as Record<string, unknown>)[key] !== undefined)
  if (rule.public !== undefined && rule.public !== true) {
    throw new RuleInvalid(`${where}: security.public can only be true; leave it out to ask who is calling`)
  }
  if (rule.public === true && asksWho.length > 0) {
    throw new RuleInvalid(`${where}: security.public excludes ${asksWho.map(key => `security.${key}`).join(', ')}`)
  }
  if (rule.public !== true && asksWho.length === 0) {
    throw new RuleInvalid(
      `${where}: security says neither public nor who may call ` +
        `(${[...new Set(understood)].filter(key => key !== 'public').join(', ')})`
    )
  }
  if (Array.isArray(rule.authenticate)) verifyMethods(rule.authenticate, where, available)
  else if (rule.authenticate === 'optional') verifyOptional(asksWho, where)
  else if (rule.authenticate !== undefined && rule.authenticate !== true) {
    throw new RuleInvalid(
      `${where}: security.authenticate must be true, "optional" or a list of methods (${METHODS.join(', ')})`
    )
  }
}

/** A rule that lets anonymous callers in and asks for a permission contradicts itself. */
function verifyOptional (asksWho: readonly string[], where: string): void {
  const others = asksWho.filter(key => key !== 'authenticate')
  if (others.length === 0) return
  throw new RuleInvalid(
    `${where}: security.authenticate "optional" excludes ${others.map(key => `security.${key}`).join(', ')}: ` +
      'a caller without a credential has neither permissions nor roles'
  )
}

function verifyMethods (
  methods: readonly AuthenticationMethod[],
  where: string,
  available: readonly AuthenticationMethod[]
): void {
  if (methods.length === 0) {
    throw new RuleInvalid(`${where}: security.authenticate is an empty list, so nobody could call it`)
  }
  for (const method of methods) {
    if (available.includes(method)) continue
    const near = closest(method, METHODS)
    throw new RuleInvalid(
      `${where}: security.authenticate names "${method}", which no registered plugin offers` +
        (near !== null && near !== method ? `; did you mean "${near}"?` : '')
    )
  }
}
