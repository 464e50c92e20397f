import { closest } from '@marty/core'
import { OptionInvalid } from './errors.js'

export interface RbacOptions {
  /** The policy file. Exactly one of `policyFile` and `policy` is given. */
  readonly policyFile?: string
  /** The text of a policy. */
  readonly policy?: string
  /** Where the service runs: an environment of the policy, or one of its aliases. There is no default, because a wrong guess could widen access. */
  readonly environment: string
  /** Which service of the policy this is; the rules for calls of it count only then. @default none */
  readonly service?: string
  /** URL of a POST route that explains decisions to holders of `policy:explain`. @default none */
  readonly explainUrl?: string
  /** The part of decisions that Casbin is asked too, afterwards and one at a time; 0 for none. @default 1/10000 */
  readonly shadowRate?: number
}

export interface ResolvedOptions {
  readonly policyFile: string | null
  readonly policy: string | null
  readonly environment: string
  readonly service: string | undefined
  readonly explainUrl: string | null
  readonly shadowRate: number
}

const KEYS = ['policyFile', 'policy', 'environment', 'service', 'explainUrl', 'shadowRate'] as const satisfies ReadonlyArray<keyof RbacOptions>

export function resolveOptions (options: Partial<RbacOptions>): ResolvedOptions {
  for (const key of Object.keys(options)) {
    if ((KEYS as readonly string[]).includes(key)) continue
    const near = closest(key, KEYS)
    throw new OptionInvalid(`@marty/rbac has no option "${key}"` + (near === null ? `; it has ${KEYS.join(', ')}` : `; did you mean "${near}"?`))
  }
  for (const key of KEYS) {
    const value: unknown = options[key]
    if (key !== 'shadowRate' && value !== undefined && (typeof value !== 'string' || value.trim() === '')) throw new OptionInvalid(`option "${key}" of @marty/rbac must be a text that is not empty`)
  }
  const { policyFile = null, policy = null, environment, service, explainUrl = null, shadowRate = 1 / 10_000 } = options
  if ((policyFile === null) === (policy === null)) {
    throw new OptionInvalid('@marty/rbac needs either the option "policyFile" or the option "policy"' + (policy === null ? '' : ', not both'))
  }
  if (environment === undefined) throw new OptionInvalid('@marty/rbac needs the option "environment", such as "production"')
  if (explainUrl !== null && !explainUrl.startsWith('/')) throw new OptionInvalid('option "explainUrl" of @marty/rbac must begin with /')
  if (typeof shadowRate !== 'number' || !(shadowRate >= 0 && shadowRate <= 1)) throw new OptionInvalid('option "shadowRate" of @marty/rbac must be a number from 0 to 1')
  return Object.freeze({ policyFile, policy, environment, service, explainUrl, shadowRate })
}
