import fc from 'fast-check'
import type { Attributes } from '@marty/rbac'

export const RESOURCES = ['a', 'b', 'c'] as const
export const SCOPES = ['own', 'all']
export const ACTIONS = ['r', 'w', 'x']
export const ROLES = Array.from({ length: 12 }, (_, index) => `role${index}`)
export const ENVIRONMENTS = ['development', 'production']
export const SERVICES = ['one', 'two', 'three']

/** Enough permissions that the others lie in several words, and on two pages of the index. */
const PADDING = Array.from({ length: 115 }, (_, index) => `p${index}`)

export const PERMISSIONS = RESOURCES.flatMap(resource =>
  ['', ...SCOPES.map(scope => `${scope}:`)].flatMap(scope => ACTIONS.map(action => `${resource}:${scope}${action}`))
)

/** A condition as text, and what it comes to, worked out apart from the product: true, false or null for unknown. */
export interface RandomCondition {
  readonly text: string
  readonly truth: (attributes: Attributes, roles: readonly string[], environment: string) => boolean | null
}

interface Entry {
  readonly permission: string
  readonly when: RandomCondition | null
}
export interface RandomPolicy {
  readonly roles: ReadonlyArray<{
    readonly inherits: readonly number[]
    readonly allow: readonly Entry[]
    readonly deny: readonly Entry[]
  }>
  readonly denies: ReadonlyArray<{
    readonly environment: string
    readonly role: number
    readonly permission: string
    readonly when: RandomCondition | null
  }>
  readonly requires: ReadonlyArray<{
    readonly environment: string
    readonly permission: string
    readonly roles: readonly number[]
    readonly when: RandomCondition | null
  }>
  readonly calls: ReadonlyArray<{
    readonly caller: string
    readonly callee: string
    readonly permission: string
    readonly when: RandomCondition | null
  }>
  readonly separation: ReadonlyArray<readonly [number, number]>
}

export interface RandomQuestion {
  readonly roles: readonly string[]
  readonly environment: string
  readonly attributes: Attributes
}

const same = (a: unknown, b: unknown): boolean | null =>
  typeof a === 'string' && typeof b === 'string' ? a === b : null
const opposite = (value: boolean | null): boolean | null => (value === null ? null : !value)

const atom: fc.Arbitrary<RandomCondition> = fc.constantFrom<RandomCondition>(
  { text: 'resource.owner == principal.id', truth: ({ resource, principal }) => same(resource?.owner, principal?.id) },
  { text: 'resource.owner != "ada"', truth: ({ resource }) => opposite(same(resource?.owner, 'ada')) },
  {
    text: 'resource.size < 5',
    truth: ({ resource }) => (Number.isFinite(resource?.size) ? (resource!.size as number) < 5 : null)
  },
  {
    text: 'resource.owner in ["ada", "bob"]',
    truth: ({ resource }) => (typeof resource?.owner === 'string' ? ['ada', 'bob'].includes(resource.owner) : null)
  },
  { text: '"role1" in principal.roles', truth: (_, roles) => roles.includes('role1') },
  { text: 'environment == "prod"', truth: (_, __, environment) => environment === 'production' },
  { text: 'principal.kind == "service"', truth: ({ principal }) => same(principal?.kind, 'service') },
  {
    text: 'time in "08:00-18:00 UTC"',
    truth: ({ time }) => new Date(time!).getUTCHours() >= 8 && new Date(time!).getUTCHours() < 18
  }
)

const condition: fc.Arbitrary<RandomCondition> = fc.oneof(
  { weight: 3, arbitrary: atom },
  {
    weight: 1,
    arbitrary: atom.map(({ text, truth }) => ({
      text: `not (${text})`,
      truth: (...asked: Parameters<typeof truth>) => opposite(truth(...asked))
    }))
  },
  {
    weight: 1,
    arbitrary: fc.tuple(atom, atom).map(([a, b]) => ({
      text: `${a.text} and ${b.text}`,
      truth: (...asked: Parameters<typeof a.truth>) => both(a.truth(...asked), b.truth(...asked))
    }))
  },
  {
    weight: 1,
    arbitrary: fc.tuple(atom, atom).map(([a, b]) => ({
      text: `${a.text} or not ${b.text}`,
      truth: (...asked: Parameters<typeof a.truth>) => either(a.truth(...asked), opposite(b.truth(...asked)))
    }))
  }
)

function both (a: boolean | null, b: boolean | null): boolean | null {
  if (a === false || b === false) return false
  return a === null || b === null ? null : true
}

function either (a: boolean | null, b: boolean | null): boolean | null {
  return opposite(both(opposite(a), opposite(b)))
}

const maybe = fc.oneof({ weight: 3, arbitrary: fc.constant(null) }, { weight: 2, arbitrary: condition })
const segment = (names: readonly string[]) => fc.constantFrom('*', ...names)
const pattern = fc.oneof(
  fc.tuple(segment(RESOURCES), segment(ACTIONS)).map(parts => parts.join(':')),
  fc.tuple(segment(RESOURCES), segment(SCOPES), segment(ACTIONS)).map(parts => parts.join(':'))
)
const entry = fc.record({ permission: pattern, when: maybe })
const entries = (maxLength: number) =>
  fc.uniqueArray(entry, { maxLength, selector: ({ permission, when }) => `${permission} ${when?.text}` })

export const randomPolicy: fc.Arbitrary<RandomPolicy> = fc
  .record({
    // Inheriting from higher numbers only keeps circles out, and longer chains than ten links, which would be refused.
    roles: fc.tuple(
      ...ROLES.map((_, index) =>
        fc.record({
          inherits:
            index > 10
              ? fc.constant<number[]>([])
              : fc.oneof(
                { weight: 3, arbitrary: fc.constant<number[]>(index === 0 ? [] : [index + 1]) },
                {
                  weight: 2,
                  arbitrary: fc.uniqueArray(fc.integer({ min: index === 0 ? 2 : index + 1, max: 11 }), {
                    maxLength: 2
                  })
                }
              ),
          allow: entries(3),
          deny: entries(1)
        })
      )
    ),
    denies: fc.array(
      fc.record({ environment: fc.constantFrom(...ENVIRONMENTS), role: fc.nat(11), permission: pattern, when: maybe }),
      { maxLength: 8 }
    ),
    requires: fc.array(
      fc
        .record({
          environment: fc.constantFrom(...ENVIRONMENTS),
          permission: pattern,
          roles: fc.uniqueArray(fc.nat(11), { maxLength: 2 }),
          when: maybe
        })
        .filter(({ roles, when }) => roles.length > 0 || when !== null),
      { maxLength: 2 }
    ),
    calls: fc.array(
      fc.record({
        caller: fc.constantFrom(...SERVICES),
        callee: fc.constantFrom(...SERVICES),
        permission: pattern,
        when: maybe
      }),
      { maxLength: 4 }
    ),
    // Roles that always hold both are refused at load, and taken out here.
    separation: fc.array(
      fc.tuple(fc.nat(11), fc.nat(11)).filter(([a, b]) => a !== b),
      { maxLength: 12 }
    ),
    longest: fc.constantFrom(false, false, true)
  })
  .map(({ longest, ...policy }) => (longest ? { ...policy, roles: chained(policy.roles) } : policy))
  .map(policy => ({
    ...policy,
    separation: policy.separation
      .filter(pair => !policy.roles.some((_, role) => pair.every(member => closure(policy, role).has(member))))
      .slice(0, 1)
  }))

/** Ten links, one after another. */
function chained (roles: RandomPolicy['roles']): RandomPolicy['roles'] {
  return roles.map((role, index) => (index === 0 || index > 10 ? role : { ...role, inherits: [index + 1] }))
}

const id = fc.constantFrom('ada', 'bob', ...SERVICES)
export const randomQuestion: fc.Arbitrary<RandomQuestion> = fc.record({
  roles: fc.uniqueArray(fc.constantFrom(...ROLES, 'stranger', 'svc:one>two', 'separated:0', 'unmet:0', '*'), {
    maxLength: 5
  }),
  environment: fc.constantFrom(...ENVIRONMENTS),
  attributes: fc.record({
    principal: fc.option(fc.record({ id, kind: fc.constantFrom('user', 'service', 'key') }, { requiredKeys: [] }), {
      nil: undefined
    }),
    service: fc.option(fc.constantFrom(...SERVICES), { nil: undefined }),
    resource: fc.option(
      fc.record(
        { owner: fc.oneof(id, fc.constantFrom(null, 5)), size: fc.constantFrom(1, 5, 9, '1', NaN) },
        { requiredKeys: [] }
      ),
      { nil: undefined }
    ),
    time: fc.integer({ min: 1_700_000_000_000, max: 1_800_000_000_000 })
  }) as fc.Arbitrary<Attributes>
})

function closure ({ roles }: Pick<RandomPolicy, 'roles'>, role: number): Set<number> {
  const found = new Set([role])
  for (const member of found) for (const parent of roles[member]!.inherits) found.add(parent)
  return found
}

/** JSON is YAML. */
export function write ({ roles, denies, requires, calls, separation }: RandomPolicy): string {
  const filled = (key: string, items: readonly unknown[]): object => (items.length === 0 ? {} : { [key]: items })
  const when = (condition: RandomCondition | null): object => (condition === null ? {} : { when: condition.text })
  const written = ({ permission, when: condition }: Entry): unknown =>
    condition === null ? permission : { permission, when: condition.text }
  return JSON.stringify({
    version: 1,
    resources: Object.fromEntries(
      ['a', 'padding', 'b', 'c'].map(name => [
        name,
        name === 'padding'
          ? { actions: PADDING }
          : { actions: ACTIONS, scopes: SCOPES, attributes: { owner: 'text', size: 'number' } }
      ])
    ),
    roles: Object.fromEntries(
      roles.map((role, index) => [
        ROLES[index],
        {
          ...filled(
            'inherits',
            role.inherits.map(parent => ROLES[parent])
          ),
          ...filled('allow', role.allow.map(written)),
          ...filled('deny', role.deny.map(written))
        }
      ])
    ),
    environments: Object.fromEntries(
      ENVIRONMENTS.map(name => [
        name,
        {
          ...(name === 'production' ? { aliases: ['prod'] } : {}),
          ...filled(
            'deny',
            denies
              .filter(({ environment }) => environment === name)
              .map(deny => ({ roles: [ROLES[deny.role]], permissions: [deny.permission], ...when(deny.when) }))
          ),
          ...filled(
            'require',
            requires
              .filter(({ environment }) => environment === name)
              .map(need => ({
                permissions: [need.permission],
                ...filled(
                  'roles',
                  need.roles.map(role => ROLES[role])
                ),
                ...when(need.when)
              }))
          )
        }
      ])
    ),
    services: Object.fromEntries(
      SERVICES.map(name => [
        name,
        filled(
          'may',
          calls
            .filter(({ caller }) => caller === name)
            .map(call => ({ call: call.callee, permissions: [call.permission], ...when(call.when) }))
        )
      ])
    ),
    ...filled(
      'separation',
      separation.map(pair => ({ roles: pair.map(role => ROLES[role]) }))
    )
  })
}

/** The decision, read from the policy as it is meant: no index, no Casbin, nothing of the product. */
export function decideNaively (
  policy: RandomPolicy,
  { roles: held, environment, attributes }: RandomQuestion,
  permission: string
): boolean {
  const { roles, denies, requires, calls, separation } = policy
  const direct = held.map(name => ROLES.indexOf(name)).filter(index => index !== -1)
  const all = new Set(direct.flatMap(role => [...closure(policy, role)]))
  const split = (text: string): string[] => (text.split(':').length === 2 ? text.replace(':', ':*:') : text).split(':')
  const [resource, scope, action] = split(permission)
  const speaks = (text: string, deny: boolean): boolean => {
    const [r, s, a] = split(text)
    return (
      (r === '*' || r === resource) &&
      (a === '*' || a === action) &&
      (s === '*' || s === scope || (deny && scope === '*'))
    )
  }
  const truth = (when: RandomCondition | null): boolean | null =>
    when === null ? true : when.truth(attributes, held, environment)
  const grants = ({ permission, when }: Entry): boolean => speaks(permission, false) && truth(when) === true
  const takes = ({ permission, when }: Entry): boolean => speaks(permission, true) && truth(when) !== false

  if (direct.some(role => roles[role]!.deny.some(takes))) return false
  if (denies.some(deny => deny.environment === environment && direct.includes(deny.role) && takes(deny))) return false
  for (const need of requires) {
    if (need.environment !== environment || !speaks(need.permission, true)) continue
    if (need.roles.length > 0 && !need.roles.some(role => all.has(role))) return false
    if (truth(need.when) !== true) return false
  }
  for (const pair of separation) {
    if (!pair.every(role => all.has(role))) continue
    if (
      pair.some(role =>
        [...closure(policy, role)].some(member =>
          roles[member]!.allow.some(({ permission }) => speaks(permission, true))
        )
      )
    ) {
      return false
    }
  }
  const { principal, service } = attributes
  return (
    [...all].some(role => roles[role]!.allow.some(grants)) ||
    (principal?.kind === 'service' &&
      calls.some(call => call.caller === principal.id && call.callee === service && grants(call)))
  )
}
