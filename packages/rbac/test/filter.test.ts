import Fastify from 'fastify'
import fc from 'fast-check'
import t from 'tap'
import { rbac, type Filter, type FilterExpression, type FilterOperand, type Rbac, type RoleHolder } from '@marty/rbac'
import {
  decideNaively,
  ENVIRONMENTS,
  PERMISSIONS,
  randomPolicy,
  randomQuestion,
  SERVICES,
  write
} from './random-policy.js'

type Resource = Readonly<Record<string, unknown>>

/** The policy in use, asked as an application does. */
async function using<Result> (
  policy: string,
  environment: string,
  service: string | undefined,
  use: (rbac: Rbac) => Result
): Promise<Result> {
  const app = Fastify()
  try {
    await app.register(rbac, { policy, environment, shadowRatio: 0, ...(service === undefined ? {} : { service }) })
    return use(app.rbac)
  } finally {
    await app.close()
  }
}

/** Three-valued, as SQL is: what the README shows as a WHERE clause, evaluated by a reading of its own. */
function asSql (expression: FilterExpression, row: Resource): boolean {
  if ('operands' in expression) {
    return expression.operands[expression.op === 'and' ? 'every' : 'some'](operand => asSql(operand, row))
  }
  const value = (operand: FilterOperand): unknown => {
    const found = 'value' in operand ? operand.value : Object.getOwnPropertyDescriptor(row, operand.attribute)?.value
    if (typeof found === 'object' && !Array.isArray(found)) return null
    if (typeof found === 'number' && !Number.isFinite(found)) return null
    return found ?? null
  }
  const [left, right] = [value(expression.left), value(expression.right)]
  if (left === null || right === null || Array.isArray(left)) return false
  const { op } = expression
  if (op === 'in') return Array.isArray(right) && right.includes(left)
  if (op === 'notIn') {
    return Array.isArray(right) && !right.includes(left) && right.every(item => typeof item === typeof left)
  }
  if (typeof left !== typeof right) return false
  if (op === 'eq' || op === 'ne') return (left === right) === (op === 'eq')
  const difference = typeof left === 'number' ? left - (right as number) : NaN
  return { lt: difference < 0, le: difference <= 0, gt: difference > 0, ge: difference >= 0 }[op]
}

function agrees (filter: Filter, resource: Resource, allowed: boolean): boolean {
  const told = filter.kind === 'some' ? asSql(filter.where, resource) : filter.kind === 'all'
  return filter.test(resource) === allowed && told === allowed
}

const value = fc.oneof(
  fc.constantFrom<unknown>('ada', 'bob', '', 0, 1, 5, 9, -1, NaN, true, false, null, undefined),
  fc.array(fc.constantFrom<unknown>('ada', 'x', 5, true, null), { maxLength: 3 })
)
const resource: fc.Arbitrary<Resource> = fc.dictionary(
  fc.constantFrom('owner', 'editor', 'size', 'limit', 'open', 'tags', '__proto__'),
  value,
  { noNullPrototype: true }
)

t.test('for any policy the filter says of each resource what the policy decides', async t => {
  let some = 0
  await fc.assert(
    fc.asyncProperty(
      randomPolicy,
      fc.constantFrom(...ENVIRONMENTS),
      fc.constantFrom(undefined, ...SERVICES),
      fc.array(randomQuestion, { minLength: 8, maxLength: 8 }),
      fc.array(resource, { minLength: 8, maxLength: 8 }),
      async (policy, environment, service, questions, resources) =>
        await using(write(policy), environment, service, rbac =>
          questions.every(({ roles, attributes }) =>
            PERMISSIONS.every(permission => {
              const caller: RoleHolder = { ...attributes.principal, roles }
              const filter = rbac.filter(caller, permission)
              if (filter.kind === 'some') some++
              return [attributes.resource ?? {}, ...resources].every(resource => {
                const allowed = rbac.can(caller, permission, resource)
                const meant = decideNaively(
                  policy,
                  { roles, environment, attributes: { principal: caller, service, resource, time: Date.now() } },
                  permission
                )
                return allowed === meant && agrees(filter, resource, allowed)
              })
            })
          )
        )
    ),
    { numRuns: 40 }
  )
  t.ok(some > 100, `${some} filters hang on the resource`)
})

const sides = {
  text: ['resource.owner', 'resource.editor', 'principal.id', 'principal.claims.team.name', '"ada"', 'environment'],
  number: ['resource.size', 'resource.limit', 'principal.claims.team.level', '5'],
  boolean: ['resource.open', 'true'],
  list: ['resource.tags', 'principal.scopes', 'principal.roles', '["ada", "bob"]', 'principal.claims.team.list']
}
const isLiteral = (text: string): boolean => /^["[\dt]/.test(text)
const pair = (
  names: readonly string[],
  more: readonly string[],
  comparators: readonly string[]
): fc.Arbitrary<string> =>
  fc
    .tuple(fc.constantFrom(...names), fc.constantFrom(...comparators), fc.constantFrom(...more))
    .filter(([left, , right]) => !(isLiteral(left) && isLiteral(right)))
    // A text that no environment is called, and no role, is refused at load.
    .filter(([left, , right]) => ![left, right].includes('environment') || ![left, right].some(isLiteral))
    .filter(([left, , right]) => right !== 'principal.roles' || left !== '"ada"')
    .map(parts => parts.join(' '))
const comparison = fc.oneof(
  pair(sides.text, sides.text, ['==', '!=']),
  pair(sides.number, sides.number, ['==', '!=', '<', '<=', '>', '>=']),
  pair(sides.boolean, sides.boolean, ['==', '!=']),
  pair(sides.text, sides.list, ['in'])
)
const { condition } = fc.letrec<{ condition: string }>(tie => ({
  condition: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    comparison,
    tie('condition').map(inner => `not (${inner})`),
    fc.tuple(tie('condition'), tie('condition')).map(([a, b]) => `(${a}) and (${b})`),
    fc.tuple(tie('condition'), tie('condition')).map(([a, b]) => `(${a}) or (${b})`)
  )
}))
const caller: fc.Arbitrary<RoleHolder> = fc.record(
  {
    roles: fc.constantFrom(['a'], ['a', 'b'], ['b'], []),
    id: fc.constantFrom('ada', 'bob'),
    scopes: fc.constantFrom([], ['ada'], ['ada', 5 as never]),
    claims: fc.record({
      team: fc.record(
        { name: value, level: value, list: fc.array(fc.constantFrom<unknown>('ada', 'x', 5, null), { maxLength: 3 }) },
        { requiredKeys: ['list'] }
      )
    })
  },
  { requiredKeys: ['roles', 'claims'] }
)

t.test('for any condition, too', async t => {
  let some = 0
  await fc.assert(
    fc.asyncProperty(
      condition,
      condition,
      fc.array(caller, { minLength: 5, maxLength: 5 }),
      fc.array(resource, { minLength: 20, maxLength: 20 }),
      async (allow, deny, callers, resources) => {
        const policy = JSON.stringify({
          version: 1,
          resources: {
            doc: {
              actions: ['read'],
              attributes: {
                owner: 'text',
                editor: 'text',
                size: 'number',
                limit: 'number',
                open: 'boolean',
                tags: 'list'
              }
            }
          },
          roles: {
            a: { allow: [{ permission: 'doc:read', when: allow }] },
            b: { deny: [{ permission: 'doc:read', when: deny }] }
          },
          environments: { ada: {} }
        })
        return await using(policy, 'ada', undefined, rbac =>
          callers.every(caller => {
            const filter = rbac.filter(caller, 'doc:read')
            if (filter.kind === 'some') some++
            return resources.every(resource => agrees(filter, resource, rbac.can(caller, 'doc:read', resource)))
          })
        )
      }
    ),
    { numRuns: 200 }
  )
  t.ok(some > 100, `${some} filters hang on the resource`)
})

t.test('conditions stand in the order of the file, whoever holds the roles in whatever order', async t => {
  const policy = JSON.stringify({
    version: 1,
    resources: { doc: { actions: ['read'], attributes: { size: 'number' } } },
    roles: {
      z: {
        allow: [
          { permission: 'doc:*', when: 'resource.size == 1' },
          { permission: 'doc:read', when: 'resource.size == 2' }
        ]
      },
      m: { inherits: ['z'], allow: [{ permission: 'doc:read', when: 'resource.size == 3' }] },
      a: { inherits: ['m'], allow: [{ permission: '*:read', when: 'resource.size == 4' }] }
    },
    environments: { ada: {} }
  })
  await using(policy, 'ada', undefined, rbac => {
    for (const roles of [['a'], ['a', 'm', 'z'], ['z', 'm', 'a']]) {
      const filter = rbac.filter({ roles }, 'doc:read')
      const values =
        filter.kind === 'some' && 'operands' in filter.where
          ? filter.where.operands.map(operand =>
            'right' in operand && 'value' in operand.right ? operand.right.value : null
          )
          : null
      t.same(values, [1, 2, 3, 4])
    }
  })
})
