import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t from 'tap'
import type * as Rbac from '@marty/rbac'
import {
  decideNaively,
  PERMISSIONS,
  randomPolicy,
  randomQuestion,
  ROLES,
  write,
  type RandomCondition,
  type RandomPolicy,
  type RandomQuestion
} from './random-policy.js'

// A compiler with a fault put into it must not pass: neither the comparison with the naive reading, nor the check that
// every policy goes through when it is loaded. Faults are put into a copy of the compiled package.

const dist = fileURLToPath(new URL('../dist/', import.meta.url))
const folder = fileURLToPath(new URL('./mutants/', import.meta.url))
t.setTimeout(120_000)
t.teardown(() => {
  rmSync(folder, { recursive: true, force: true })
})

const MUTANTS: ReadonlyArray<readonly [name: string, file: string, piece: string, replacement: string]> = [
  ['drops every deny', 'engine/policy-index', 'deny: DENY', 'deny: 0'],
  ['inherits denies', 'engine/policy-index', "row.effect === 'allow' || member === subject", 'true'],
  ['inherits nothing', 'engine/policy-index', "row.effect === 'allow' || member === subject", 'member === subject'],
  [
    'ignores environments',
    'engine/policy-index',
    'builder.build([...everywhere, ...here])',
    'builder.build([...reached.values()].flat())'
  ],
  ['forgets rules of environments', 'engine/policy-index', 'reached.get(name)', 'undefined'],
  [
    'applies rules of an environment everywhere',
    'engine/policy-index',
    "reached.get('*') ?? []",
    '[...reached.values()].flat()'
  ],
  [
    'swaps environments',
    'engine/policy-index',
    'rowOf[id * environments + at] = here',
    'rowOf[id * environments + environments - 1 - at] = here'
  ],
  ['allows what is conditional', 'engine/policy-index', 'UNKNOWN << 2 * CONDITIONAL |', 'TRUE << 2 * CONDITIONAL |'],
  ['denies what is conditional', 'engine/policy-index', 'UNKNOWN << 2 * CONDITIONAL |', ''],
  [
    'ignores conditions beside an allow',
    'engine/policy-index',
    'UNKNOWN << 2 * (CONDITIONAL | ALLOW)',
    'TRUE << 2 * (CONDITIONAL | ALLOW)'
  ],
  [
    'lets an allow beat a deny',
    'engine/policy-index',
    'TRUE << 2 * ALLOW |',
    'TRUE << 2 * ALLOW | TRUE << 2 * (DENY | ALLOW) |'
  ],
  [
    'goes on after a conditional deny',
    'engine/policy-index',
    "if (effect === 'deny')\n                    return false;",
    "if (effect === 'deny')\n                    continue;"
  ],
  [
    'forgets allows beside conditions',
    'engine/policy-index',
    'if ((bits & ALLOW) !== 0)\n                allowed = true;',
    ''
  ],
  [
    'weighs conditions beside a deny',
    'engine/policy-index',
    'TRUE << 2 * ALLOW |',
    'TRUE << 2 * ALLOW | UNKNOWN << 2 * (DENY | CONDITIONAL) |'
  ],
  ['takes the next permission', 'engine/policy-index', 'cell >>> (permission << 2)', 'cell >>> (permission + 1 << 2)'],
  [
    'takes two permissions for one',
    'engine/policy-index',
    'permission >> 3 & CELLS_A_PAGE - 1',
    'permission >> 4 & CELLS_A_PAGE - 1'
  ],
  ['takes the first page', 'engine/policy-index', 'const page = permission >> PAGE_SHIFT;', 'const page = 0;'],
  [
    'asks one role',
    'engine/policy-index',
    'at < rows.length; at += environments',
    'at < environments; at += environments'
  ],
  ['keeps a cell of the row before', 'engine/policy-index', 'scratch.fill(0)', 'scratch'],
  ['keeps one permission of a cell', 'engine/policy-index', '(masks.get(cell) ?? 0) |', ''],
  [
    'confuses lists of conditions',
    'engine/policy-index',
    'list.map(({ mask, effect, condition }) =>',
    'list.map(({ mask, effect }, condition) =>'
  ],
  [
    'confuses effects of conditions',
    'engine/policy-index',
    'list.map(({ mask, effect, condition }) =>',
    'list.map(({ mask, condition }, effect) =>'
  ],
  ['looks at all conditions of a cell', 'engine/policy-index', 'bitsOf(mask, permission) === 0 ||', ''],
  [
    'denies only the very scope',
    'engine/policy-index',
    'ruleMatches(pattern, parts, effect)',
    "ruleMatches(pattern, parts, 'allow')"
  ],
  [
    'allows the whole for a part',
    'engine/policy-index',
    'ruleMatches(pattern, parts, effect)',
    "ruleMatches(pattern, parts, 'deny')"
  ],
  ['takes persons for services', 'engine/role-sets', "principal?.kind === 'service'", 'principal !== undefined'],
  [
    'lets roles name services',
    'engine/role-sets',
    'if (!known.has(role))\n                continue;\n            held.push(role);',
    'if (known.has(role))\n                held.push(role);'
  ],
  ['separates holders of one role', 'engine/role-sets', '>= 2', '>= 1'],
  ['separates nobody', 'engine/role-sets', '>= 2', '>= 3'],
  ['requires the opposite', 'engine/role-sets', '!sufficient.some(holds)', 'sufficient.some(holds)'],
  ['requires roles directly', 'engine/role-sets', 'closureOf(own).has(role)', 'own === role'],
  ['forgets rules for anyone', 'engine/role-sets', 'add(anyone);', '']
]

/** A copy of the package with pieces of its text replaced; each must be there exactly once. */
async function mutate (
  name: string,
  ...changes: ReadonlyArray<readonly [file: string, piece: string, replacement: string]>
): Promise<typeof Rbac> {
  const copy = `${folder}${name.replaceAll(' ', '-')}/`
  cpSync(dist, copy, { recursive: true })
  for (const [file, piece, replacement] of changes) {
    const text = readFileSync(`${copy}${file}.js`, 'utf8')
    if (text.split(piece).length !== 2) {
      throw new Error(`${file}.js holds ${text.split(piece).length - 1} times: ${piece}`)
    }
    writeFileSync(
      `${copy}${file}.js`,
      text.replace(piece, () => replacement)
    )
  }
  return (await import(`${copy}index.js`)) as typeof Rbac
}

/** What chance rarely makes: one condition, on one permission, in an allow and in a deny. */
const when: RandomCondition = { text: 'resource.size < 5', truth: () => true }
const twins: RandomPolicy = {
  roles: ROLES.map((_, role) => ({
    inherits: [],
    allow: role === 0 ? [{ permission: 'a:r', when }] : [],
    deny: role === 1 ? [{ permission: 'a:r', when }] : []
  })),
  denies: [],
  requires: [],
  calls: [],
  separation: []
}
const ofTwins: RandomQuestion[] = ['role0', 'role1'].map(role => ({
  roles: [role],
  environment: 'production',
  attributes: { resource: { size: 1 } }
}))

const made = [
  { policy: twins, text: write(twins), questions: ofTwins },
  ...fc.sample(randomPolicy, { numRuns: 20, seed: 1 }).map((policy, index) => ({
    policy,
    text: write(policy),
    questions: fc.sample(randomQuestion, { numRuns: 25, seed: index + 1 })
  }))
]
const withoutSelfCheck = ['engine/policy', 'if (differences.length > 0)', 'if (false)'] as const

/** The number of the first random policy that gives the fault away; null when none does. */
async function firstDifference ({ loadPolicy }: typeof Rbac): Promise<number | null> {
  for (const [number, { policy, text, questions }] of made.entries()) {
    const compiled = await loadPolicy(text, 'p')
    for (const question of questions) {
      for (const permission of PERMISSIONS) {
        if (
          compiled.decide(question.roles, permission, question.environment, question.attributes) !==
          decideNaively(policy, question, permission)
        ) {
          return number
        }
      }
    }
  }
  return null
}

async function firstRefusal ({ loadPolicy }: typeof Rbac): Promise<number | null> {
  for (const [number, { text }] of made.entries()) {
    const error = await loadPolicy(text, 'p').then(
      () => null,
      (error: unknown) => error as Error
    )
    if (error === null) continue
    // A fault that only breaks the compiler proves nothing.
    if (!error.message.includes('Casbin disagree')) throw error
    return number
  }
  return null
}

t.test('the compiler as it is passes', async t => {
  t.equal(await firstDifference(await mutate('none', withoutSelfCheck)), null)
  t.equal(await firstRefusal(await mutate('none at all')), null)
})

for (const [name, ...change] of MUTANTS) {
  t.test(`a compiler that ${name} is found out`, async t => {
    const compared = await firstDifference(await mutate(`${name} unchecked`, withoutSelfCheck, change))
    t.not(compared, null, 'by comparing')
    const refused = await firstRefusal(await mutate(name, change))
    t.not(refused, null, 'when a policy is loaded')
    t.comment(`after ${compared} and ${refused} policies`)
  })
}

// What Casbin is given too, and what nothing but names goes through: only the naive reading can tell.
const MISREADINGS: typeof MUTANTS = [
  [
    'lets a deny stand only when its condition is known to hold',
    'conditions/evaluate',
    'truth !== FALSE',
    'truth === TRUE'
  ],
  ['takes rules about several permissions for one', 'parse/rules', 'formatPermission(read)', 'read.action'],
  ['takes allows and denies for one', 'parse/rules', '{effect}', '{environment}'],
  ['takes every pattern for the first', 'parse/rules', 'known.get(pattern)', 'known.values().next().value'],
  ['stays in the environment it was asked about first', 'engine/policy', 'if (name === latest)', "if (name !== '')"],
  ['stays in the environment it was asked about last', 'engine/policy', 'latest = name;', ''],
  ['remembers the environment without its id', 'engine/policy', 'latestId = id;', '']
]
for (const [name, ...change] of MISREADINGS) {
  t.test(`a policy that ${name} is found out by comparing`, async t => {
    t.not(await firstDifference(await mutate(name, withoutSelfCheck, change)), null)
  })
}

t.test('a check that shows Casbin too few rows refuses what is right', async t => {
  t.not(
    await firstRefusal(
      await mutate('few rows', ['engine/casbin-engine', 'named.length === 1 ?', 'named.length >= 1 ?'])
    ),
    null
  )
  t.not(await firstRefusal(await mutate('no wildcards', ['engine/casbin-engine', ", '*:*']", ']'])), null)
})

t.test('Casbin holding what is no rule is told', async t => {
  const row = 'condition === null ? UNCONDITIONAL : String(condition)'
  for (const [replacement, message] of [
    ['', /holds a row that is not a rule/],
    ['undefined', /holds a row that is not a rule/]
  ] as const) {
    const { loadPolicy } = await mutate(`row ${replacement.length}`, ['engine/casbin-engine', row, replacement])
    await t.rejects(loadPolicy(made[1]!.text, 'p'), { message })
  }
  const { loadPolicy } = await mutate('effect', [
    'engine/casbin-engine',
    'effect,\n        condition === null',
    "effect.replace('d', 'D'),\n        condition === null"
  ])
  await t.rejects(loadPolicy(made[1]!.text, 'p'), { message: /holds a row that is not a rule: .*"Deny"/ })
  const links = await mutate('links', ['engine/casbin-engine', '=> [child, parent]', '=> [child, parent, parent]'])
  await t.rejects(links.loadPolicy(made[1]!.text, 'p'), { message: /holds a role link that is not a pair of names/ })
  const unlinked = await mutate('unlinked', [
    'engine/casbin-engine',
    'void roleManager.addLink(child, parent);',
    'void 0;'
  ])
  await t.rejects(unlinked.loadPolicy(made[1]!.text, 'p'), { message: /the compiled policy and Casbin disagree/ })
})

t.test('an index that disagrees is told, ten times at most', async t => {
  const { loadPolicy } = await mutate('told', [
    'engine/policy-index',
    '(TRUTHS >>> (2 * bitsOf(found, permission))) & 3',
    'TRUE'
  ])
  const error = (await loadPolicy(made[1]!.text, 'p').catch(
    (error: unknown) => error as Rbac.PolicyInvalid
  )) as Rbac.PolicyInvalid
  t.equal(error.problems.length, 10)
  t.match(error.problems[0], {
    source: 'p',
    line: 0,
    message: /^the compiled policy and Casbin disagree on \w+:\S+ for .+ in (development|production)$/
  })
})
