import fc from 'fast-check'
import t from 'tap'
import { diffPolicies, loadPolicy, type Attributes, type Policy, type PolicyChange } from '@marty/rbac'

const policyOf = async (effect: 'allow' | 'deny', when: string): Promise<Policy> => {
  const rule = { permission: 'doc:read', when }
  return await loadPolicy(
    JSON.stringify({
      version: 1,
      resources: {
        doc: { actions: ['read'], attributes: { owner: 'text', size: 'number', open: 'boolean', tags: 'list' } }
      },
      roles: { reader: effect === 'allow' ? { allow: [rule] } : { allow: ['doc:read'], deny: [rule] } },
      environments: { production: {} }
    }),
    'policy.yaml'
  )
}
const kindOf = async (
  before: string,
  after: string,
  effect: 'allow' | 'deny' = 'allow'
): Promise<PolicyChange['kind'] | null> => {
  const { changes } = diffPolicies(await policyOf(effect, before), await policyOf(effect, after))
  return changes[0]?.kind ?? null
}

type Tree =
  | { readonly text: string }
  | { readonly kind: 'and' | 'or'; readonly left: Tree; readonly right: Tree }
  | { readonly kind: 'not'; readonly operand: Tree }

const atoms: readonly string[] = [
  ...['==', '!=', '<', '<=', '>', '>='].flatMap(comparator =>
    [3, 5].map(size => `resource.size ${comparator} ${size}`)
  ),
  '5 > resource.size',
  'resource.size in [3, 5]',
  'resource.owner == principal.id',
  'principal.id != resource.owner',
  'resource.owner == "ada"',
  '"ada" != resource.owner',
  'resource.owner in ["ada", "bob"]',
  'resource.open == true',
  'resource.open != true',
  'false == resource.open',
  '"red" in resource.tags',
  'time in "08:00-18:00 UTC"',
  'environment == "production"'
]
const { tree } = fc.letrec<{ tree: Tree }>(tie => ({
  tree: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.constantFrom(...atoms).map(text => ({ text })),
    fc.record({ kind: fc.constantFrom('and', 'or'), left: tie('tree'), right: tie('tree') }) as fc.Arbitrary<Tree>,
    fc.record({ kind: fc.constant('not'), operand: tie('tree') }) as fc.Arbitrary<Tree>
  )
}))

function write (tree: Tree): string {
  if ('text' in tree) return tree.text
  return tree.kind === 'not'
    ? `not (${write(tree.operand)})`
    : `(${write(tree.left)}) ${tree.kind} (${write(tree.right)})`
}

const missing = [undefined]
const grid: readonly Attributes[] = [1, 3, 4, 5, 9, '3', ...missing].flatMap(size =>
  ['ada', 'bob', 'eve', 7, ...missing].flatMap(owner =>
    [true, false, 1, ...missing].flatMap(open =>
      [['red'], [], ...missing].map((tags, index) => ({
        principal: { id: 'bob' },
        resource: { size, owner, open, tags },
        time: index * 8 * 3_600_000
      }))
    )
  )
)

t.test('what is told of a change is true of every request', async t => {
  const told = { gain: 0, loss: 0, maybe: 0, nothing: 0 }
  await fc.assert(
    fc.asyncProperty(tree, tree, fc.constantFrom('allow', 'deny'), fc.nat(3), async (one, part, effect, how) => {
      const changes: Tree[] = [
        part,
        { kind: 'and', left: part, right: one },
        { kind: 'or', left: one, right: part },
        { kind: 'not', operand: one }
      ]
      const other = changes[how]!
      const [before, after] = [await policyOf(effect, write(one)), await policyOf(effect, write(other))]
      const kind = diffPolicies(before, after).changes[0]?.kind ?? 'nothing'
      told[kind]++
      for (const attributes of grid) {
        const was = before.decide(['reader'], 'doc:read', 'production', attributes)
        const is = after.decide(['reader'], 'doc:read', 'production', attributes)
        if (!was && is && kind !== 'gain' && kind !== 'maybe') {
          throw new Error(`gains at ${JSON.stringify(attributes)}, told ${kind}`)
        }
        if (was && !is && kind !== 'loss' && kind !== 'maybe') {
          throw new Error(`loses at ${JSON.stringify(attributes)}, told ${kind}`)
        }
      }
      if (effect === 'allow' && how === 1) t.not(kind, 'gain', 'a narrowing is no gain')
      if ((how === 1 || how === 2) && kind === 'maybe') {
        throw new Error('one more condition in conjunction narrows, in disjunction it widens')
      }
    }),
    { numRuns: 300, interruptAfterTimeLimit: 10_000 }
  )
  t.comment(told)
  for (const [kind, number] of Object.entries(told)) t.ok(number > 0, kind)
})

/** The same in other words; `choices` are asked one after another. */
function reword (tree: Tree, choices: () => boolean): Tree {
  if ('text' in tree) return reworded(tree.text, choices)
  if (tree.kind === 'not') {
    const { operand } = tree
    if ('text' in operand || operand.kind === 'not' || !choices()) {
      return { kind: 'not', operand: reword(operand, choices) }
    }
    const not = (part: Tree): Tree => ({ kind: 'not', operand: reword(part, choices) })
    return { kind: operand.kind === 'and' ? 'or' : 'and', left: not(operand.right), right: not(operand.left) }
  }
  const [left, right] = [reword(tree.left, choices), reword(tree.right, choices)]
  const turned: Tree = choices() ? { kind: tree.kind, left: right, right: left } : { kind: tree.kind, left, right }
  const inner = turned.right
  if ('text' in inner || inner.kind === 'not' || inner.kind === tree.kind || !choices()) return turned
  return {
    kind: inner.kind,
    left: { kind: tree.kind, left: turned.left, right: inner.left },
    right: { kind: tree.kind, left: turned.left, right: inner.right }
  }
}

const OPPOSITES: Readonly<Record<string, string>> = {
  '==': '!=',
  '!=': '==',
  '<': '>=',
  '>=': '<',
  '>': '<=',
  '<=': '>'
}
const TURNED: Readonly<Record<string, string>> = { '==': '==', '!=': '!=', '<': '>', '>': '<', '<=': '>=', '>=': '<=' }

function reworded (text: string, choices: () => boolean): Tree {
  const [, left, comparator, right] = /^(\S+) (\S+) (.*)$/.exec(text)!
  const list = /^\[(.+)\]$/.exec(right!)
  if (list !== null && choices()) {
    return list[1]!
      .split(', ')
      .map<Tree>(item => reworded(`${left} == ${item}`, choices))
      .reduce((a, b) => ({ kind: 'or', left: b, right: a }))
  }
  if (comparator === 'in') return choices() ? { kind: 'not', operand: { kind: 'not', operand: { text } } } : { text }
  const [first, sign, second] = choices() ? [right, TURNED[comparator!], left] : [left, comparator, right]
  return choices()
    ? { kind: 'not', operand: { text: `${first} ${OPPOSITES[sign!]} ${second}` } }
    : { text: `${first} ${sign} ${second}` }
}

t.test('the same in other words is no change', async t => {
  let other = 0
  await fc.assert(
    fc.asyncProperty(
      tree,
      fc.array(fc.boolean(), { minLength: 40, maxLength: 40 }),
      fc.constantFrom('allow', 'deny'),
      async (tree, bits, effect) => {
        let next = 0
        const [before, after] = [write(tree), write(reword(tree, () => bits[next++ % bits.length]!))]
        if (before !== after) other++
        t.equal(await kindOf(before, after, effect), null, `${before} -> ${after}`)
      }
    ),
    { numRuns: 200, interruptAfterTimeLimit: 8_000 }
  )
  t.ok(other > 50)
})

t.test('what comparisons of one attribute have to do with each other', async t => {
  const cases: ReadonlyArray<readonly [string, string, PolicyChange['kind'] | null]> = [
    ['not (resource.owner == "ada")', 'resource.owner != "ada"', null],
    ['resource.owner == principal.id', 'principal.id == resource.owner', null],
    ['resource.owner == "ada"', 'resource.owner in ["ada", "bob"]', 'gain'],
    ['resource.owner in ["ada", "bob"]', 'resource.owner in ["bob"]', 'loss'],
    ['not (resource.owner in ["ada"])', 'not (resource.owner in ["ada", "bob"])', 'loss'],
    ['resource.owner == "ada"', 'resource.owner != "bob"', 'gain'],
    ['resource.size < 5', 'resource.size <= 5', 'gain'],
    ['resource.size <= 5', 'resource.size < 5', 'loss'],
    ['resource.size >= 5', 'resource.size > 4', 'gain'],
    ['resource.size > 5', 'resource.size != 5', 'gain'],
    ['resource.size == 3', 'resource.size == 5', 'maybe'],
    ['resource.size > 5', 'resource.size > 5 and not (resource.size < 3)', null],
    ['resource.size > 5 and resource.size < 3', 'resource.owner == "ada" and resource.owner == "bob"', null],
    ['resource.open == true', 'resource.open != false', null],
    ['principal.claims.level == 5', 'principal.claims.level != "five"', 'maybe'],
    ['principal.claims.level == 5', 'principal.claims.level < 7 and principal.claims.level != 6', 'gain'],
    ['resource.owner == principal.id', 'resource.owner != "ada"', 'maybe'],
    // A missing attribute makes neither true.
    ['resource.open == true', 'resource.open == true or resource.open == false', 'gain'],
    ['resource.owner == "ada"', 'resource.owner == "ada" and resource.size == resource.size', 'loss']
  ]
  for (const [before, after, kind] of cases) t.equal(await kindOf(before, after), kind, `${before} -> ${after}`)
})

t.test('many rules are compared one by one', async t => {
  const denies = (last: string): unknown[] =>
    [
      ...Array.from({ length: 40 }, (_, index) => `resource.size == ${index} and "tag${index}" in resource.tags`),
      last
    ].map(when => ({ permission: 'doc:read', when }))
  const policy = async (last: string): Promise<Policy> =>
    await loadPolicy(
      JSON.stringify({
        version: 1,
        resources: { doc: { actions: ['read'], attributes: { owner: 'text', size: 'number', tags: 'list' } } },
        roles: { reader: { allow: ['doc:read'], deny: denies(last) } },
        environments: { production: {} }
      }),
      'policy.yaml'
    )
  const [open, narrow] = [
    await policy('resource.size > 50 and resource.owner == "ada"'),
    await policy('resource.size > 50')
  ]
  t.match(diffPolicies(open, narrow).changes, [{ kind: 'loss' }])
  t.match(diffPolicies(narrow, open).changes, [{ kind: 'gain' }])
})

t.test('what would take too long to prove counts as a gain', async t => {
  // Pigeons and holes: never true, but to prove it takes a time exponential in their number.
  const [pigeons, holes] = [9, 8].map(length => [...Array(length).keys()]) as [number[], number[]]
  const policy = async (roles: string): Promise<Policy> =>
    await loadPolicy(
      JSON.stringify({
        version: 1,
        resources: { doc: { actions: ['read'], attributes: { tags: 'list' } } },
        roles: { reader: JSON.parse(roles) as unknown },
        environments: {
          production: {
            require: pigeons.map(pigeon => ({
              permissions: ['doc:read'],
              when: holes.map(hole => `"${pigeon}-${hole}" in resource.tags`).join(' or ')
            })),
            deny: holes.flatMap(hole =>
              pigeons.flatMap(pigeon =>
                pigeons.slice(0, pigeon).map(other => ({
                  roles: ['reader'],
                  permissions: ['doc:read'],
                  when: `"${pigeon}-${hole}" in resource.tags and "${other}-${hole}" in resource.tags`
                }))
              )
            )
          }
        }
      }),
      'policy.yaml'
    )
  t.match(diffPolicies(await policy('{}'), await policy('{ "allow": ["doc:read"] }')).changes, [
    { subject: 'reader', kind: 'gain' }
  ])
})
