import fc from 'fast-check'
import t from 'tap'
import { loadPolicy } from '@marty/rbac'

// Three answers to every question must agree: the compiled index, Casbin, and the definition read naively below.

const RESOURCES = ['a', 'b', 'c']
const SCOPES = ['own', 'all']
const ACTIONS = ['r', 'w', 'x']
const ROLES = Array.from({ length: 12 }, (_, index) => `role${index}`)
const ENVIRONMENTS = ['development', 'production']

interface Role { readonly inherits: number[], readonly allow: string[], readonly deny: string[] }
interface Definition { readonly roles: Role[], readonly denies: Array<{ environment: string, role: number, permission: string }> }

const segment = (names: readonly string[]) => fc.constantFrom('*', ...names)
const pattern = fc.oneof(
  fc.tuple(segment(RESOURCES), segment(ACTIONS)).map(parts => parts.join(':')),
  fc.tuple(segment(RESOURCES), segment(SCOPES), segment(ACTIONS)).map(parts => parts.join(':')))

const definition: fc.Arbitrary<Definition> = fc.record({
  // Inheriting from higher numbers only keeps circles out; the next one is likely, so that long chains happen.
  roles: fc.tuple(...ROLES.map((_, index) => fc.record({
    inherits: index > 10
      ? fc.constant<number[]>([])
      : fc.oneof({ weight: 3, arbitrary: fc.constant<number[]>(index === 0 ? [] : [index + 1]) },
        { weight: 2, arbitrary: fc.uniqueArray(fc.integer({ min: index + 1, max: 11 }), { maxLength: 2 }) }),
    allow: fc.uniqueArray(pattern, { maxLength: 2 }),
    deny: fc.uniqueArray(pattern, { maxLength: 1 })
  }))),
  denies: fc.array(fc.record({ environment: fc.constantFrom(...ENVIRONMENTS), role: fc.nat(11), permission: pattern }), { maxLength: 4 })
})

const questions = fc.array(fc.record({
  roles: fc.uniqueArray(fc.constantFrom(...ROLES, 'stranger'), { maxLength: 4 }),
  environment: fc.constantFrom(...ENVIRONMENTS)
}), { minLength: 4, maxLength: 4 })

/** JSON is YAML. */
function write ({ roles, denies }: Definition): string {
  const filled = <Item>(key: string, items: readonly Item[]): Record<string, readonly Item[]> => items.length === 0 ? {} : { [key]: items }
  return JSON.stringify({
    version: 1,
    resources: Object.fromEntries(RESOURCES.map(name => [name, { actions: ACTIONS, scopes: SCOPES }])),
    roles: Object.fromEntries(roles.map((role, index) => [ROLES[index], {
      ...filled('inherits', role.inherits.map(parent => ROLES[parent])), ...filled('allow', role.allow), ...filled('deny', role.deny)
    }])),
    environments: Object.fromEntries(ENVIRONMENTS.map(name => [name, filled('deny', denies.filter(deny => deny.environment === name)
      .map(deny => ({ roles: [ROLES[deny.role]], permissions: [deny.permission] })))]))
  })
}

function decideNaively ({ roles, denies }: Definition, held: readonly string[], permission: string, environment: string): boolean {
  const direct = held.map(name => ROLES.indexOf(name)).filter(index => index !== -1)
  const split = (text: string): string[] => text.split(':').length === 2 ? text.replace(':', ':*:').split(':') : text.split(':')
  const [resource, scope, action] = split(permission)
  const speaks = (text: string, deny: boolean): boolean => {
    const [r, s, a] = split(text)
    return (r === '*' || r === resource) && (a === '*' || a === action) && (s === '*' || s === scope || (deny && scope === '*'))
  }
  const grants = (index: number): boolean => roles[index]!.allow.some(text => speaks(text, false)) || roles[index]!.inherits.some(grants)
  const denied = direct.some(index => roles[index]!.deny.some(text => speaks(text, true))) ||
    denies.some(deny => deny.environment === environment && direct.includes(deny.role) && speaks(deny.permission, true))
  return !denied && direct.some(grants)
}

t.test('index, Casbin and the definition agree on random policies', async t => {
  let decisions = 0
  let allowed = 0
  await fc.assert(fc.asyncProperty(definition, questions, async (policyDefinition, asked) => {
    const policy = await loadPolicy(write(policyDefinition), 'random.yaml')
    for (const { roles, environment } of asked) {
      for (const permission of policy.permissions) {
        const expected = decideNaively(policyDefinition, roles, permission, environment)
        const answers = [policy.decide(roles, permission, environment), policy.decideByCasbin(roles, permission, environment), policy.explain(roles, permission, environment)]
        decisions++
        if (expected) allowed++
        if (answers[0] !== expected || answers[1] !== expected) throw new Error(`${permission} for ${roles.join('+')} in ${environment}: expected ${expected}, got ${JSON.stringify(answers)}`)
        const { rule } = policy.explain(roles, permission, environment)
        if ((rule?.effect === 'allow') !== expected) throw new Error(`${permission} for ${roles.join('+')} is ${expected}, explained as ${JSON.stringify(rule)}`)
      }
    }
  }), { numRuns: 60 })
  t.ok(decisions >= 5_000, `${decisions} decisions`)
  t.ok(allowed > decisions / 20 && allowed < decisions * 19 / 20, `${allowed} of them allowed`)
})
