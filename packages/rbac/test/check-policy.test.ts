import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { parseYaml } from '@marty/config'
import fc from 'fast-check'
import t from 'tap'
import { Value } from 'typebox/value'
import { checkPolicy, loadPolicy, PolicyInvalid, policyJsonSchema } from '@marty/rbac'
import { POLICY, policyWith } from './policy-text.js'

const problemsOf = (text: string): string[] =>
  checkPolicy(text, 'p.yaml').problems.map(({ line, column, message }) => `${line}:${column} ${message}`)
const afterReplacing = (piece: string, replacement: string): string[] => problemsOf(policyWith(piece, replacement))

t.test('a sound policy has no problems', async t => {
  t.same(problemsOf(POLICY), [])
})

t.test('every mistake of the shape is told at once, with its position', async t => {
  t.same(
    problemsOf(`version: 2
resource: {}
roles:
  Viewer: { allow: [camera:view] }
  operator: { alow: [camera:view], inherits: viewer }
  admin: { allow: ['camera', 'camera:v*', 'a:b:c:d', 5, 'x:y', 'x:y'] }
environments: {}
conditions: []
`),
    [
      '1:10 version must be 1; found the number 2',
      '2:1 unknown key "resource"; did you mean "resources"?',
      '4:3 "Viewer" is not a valid name in roles; names must match ^(?!constructor$|prototype$|null$|true$|false$)[a-z][a-z0-9_-]*$',
      '5:15 unknown key "alow" in roles.operator; did you mean "allow"?',
      '5:46 roles.operator.inherits must be a list; found the string "viewer"',
      '6:19 roles.admin.allow must not contain an item twice',
      '6:20 roles.admin.allow[0] must be "resource:action" or "resource:scope:action", ' +
        'where * stands for a whole segment; found the string "camera"',
      '6:30 roles.admin.allow[1] must be "resource:action" or "resource:scope:action", ' +
        'where * stands for a whole segment; found the string "camera:v*"',
      '6:43 roles.admin.allow[2] must be "resource:action" or "resource:scope:action", ' +
        'where * stands for a whole segment; found the string "a:b:c:d"',
      '6:54 roles.admin.allow[3] must be a string or a mapping; found the number 5',
      '7:15 environments must have at least one entry',
      '8:1 unknown key "conditions"; known are version, resources, roles, environments, services, separation'
    ]
  )
})

t.test('every name that refers to nothing is told at once', async t => {
  t.same(
    problemsOf(`version: 1
resources:
  camera: { actions: [view] }
  services: { actions: [read], scopes: [own] }
roles:
  viewer: { allow: ['camrea:view', 'camera:veiw', 'services:owm:read', 'camera:own:view', '*:veiw', '*:all:read', '*:own:view', '*:*'] }
  operator: { inherits: [viewr], deny: ['camera:take'] }
environments:
  production: { aliases: [prod, staging], deny: [{ roles: [operater], permissions: ['services:reed'] }] }
  staging: { aliases: [prod] }
`),
    [
      '6:21 there is no resource "camrea"; did you mean "camera"?',
      '6:36 "camera" does not have the action "veiw"; did you mean "view"?',
      '6:51 "services" does not have the scope "owm"; did you mean "own", declared in line 4 and used nowhere?',
      '6:72 "camera" does not have the scope "own"',
      '6:91 no resource has the action "veiw"; did you mean "view"?',
      '6:101 no resource has the scope "all"',
      '6:115 no resource has both the scope "own" and the action "view"',
      '7:26 there is no role "viewr"; did you mean "viewer", declared in line 6 and used nowhere?',
      '7:41 "camera" does not have the action "take"',
      '9:33 "staging" already names the environment "staging"',
      '9:60 there is no role "operater"; did you mean "operator", declared in line 7 and used nowhere?',
      '9:85 "services" does not have the action "reed"; did you mean "read"?',
      '10:24 "prod" already names the environment "production"'
    ]
  )
})

t.test('a mistyped effect is refused, never ignored', async t => {
  t.match(afterReplacing("deny: ['camera:*']", "Deny: ['camera:*']"), [
    /unknown key "Deny" in roles.suspended; did you mean "deny"/
  ])
  t.match(afterReplacing("deny: ['camera:*']", "dney: ['camera:*']"), [/did you mean "deny"/])
})

t.test('patterns that reach past a segment, and regular expressions, are refused', async t => {
  for (const pattern of [
    'services:*:read*',
    'camera:/view',
    'camera:view.*',
    '^(a+)+$:view',
    'camera:**',
    ':view',
    'camera:',
    'camera::view',
    'camera:view#',
    'camera:view,deny'
  ]) {
    t.match(afterReplacing("'recording:control'", JSON.stringify(pattern)), [/must be "resource:action"/], pattern)
  }
})

t.test('circles and chains that Casbin would cut silently are refused', async t => {
  t.match(afterReplacing('viewer:\n', 'viewer:\n    inherits: [viewer]\n'), [
    '8:16 roles inherit in a circle: viewer > viewer'
  ])
  t.match(afterReplacing('viewer:\n', 'viewer:\n    inherits: [admin]\n'), [
    /roles inherit in a circle: viewer > admin > operator > viewer/
  ])

  const clique = Array.from(
    { length: 6 },
    (_, i) =>
      `  r${i}: { inherits: [${Array.from({ length: 6 }, (_, j) => `r${j}`)
        .filter(name => name !== `r${i}`)
        .join(', ')}] }`
  ).join('\n')
  t.match(problemsOf(POLICY.replace('roles:\n', `roles:\n${clique}\n`))[0], /circle/)

  const chain = (length: number): string =>
    POLICY.replace(
      'roles:\n',
      'roles:\n' +
        Array.from(
          { length },
          (_, i) => `  c${i}: { inherits: [${i + 1 === length ? 'viewer' : `c${i + 1}`}] }\n`
        ).join('')
    )
  t.same(problemsOf(chain(10)), [], 'ten links are followed')
  t.same(problemsOf(chain(11)), ['7:20 "c0" inherits over more than 10 roles'])
  t.match(problemsOf(chain(5_000))[0], /over more than 10 roles/)
  const deepest = await loadPolicy(chain(10), 'p.yaml')
  t.ok(deepest.decide(['c0'], 'camera:view', 'dev'))
  t.ok(deepest.decideByCasbin(['c0'], 'camera:view', 'dev'))
})

t.test('a tangle of inheritance that would take Casbin for ever is refused', async t => {
  const layers = Array.from({ length: 8 }, (_, layer) =>
    Array.from(
      { length: 4 },
      (_, i) =>
        `  l${layer}-${i}: { inherits: [${layer === 7 ? 'viewer' : [0, 1, 2, 3].map(next => `l${layer + 1}-${next}`).join(', ')}] }\n`
    ).join('')
  ).join('')
  const problems = problemsOf(POLICY.replace('roles:\n', `roles:\n${layers}`))
  t.ok(problems.length > 0)
  for (const problem of problems) t.match(problem, /inherits in more than 1000 ways/)
})

t.test('names that reach into prototypes are refused', async t => {
  for (const name of ['__proto__', 'constructor', 'prototype']) {
    t.match(afterReplacing('  suspended:', `  ${name}:`)[0], 'is not allowed', name)
    t.not(afterReplacing('[view, configure]', `[view, ${name}]`).length, 0, name)
    t.not(afterReplacing('inherits: [operator]', `inherits: [${name}]`).length, 0, name)
  }
})

t.test('YAML that is no single plain document is refused with its position', async t => {
  t.same(problemsOf(''), ['1:1 the file must be a mapping; found nothing'])
  t.same(problemsOf(`${POLICY}---\nversion: 1\n`), [
    `${POLICY.split('\n').length}:1 a second document begins here; a file must contain only one`
  ])
  t.same(problemsOf('version: 1\nroles:\n\tviewer: {}\n'), ['3:1 a tab is used for indentation; use spaces'])
  t.match(problemsOf(`${POLICY}roles: {}\n`), [/this key is written twice/])
  t.match(afterReplacing('inherits: [operator]', 'inherits: &a [operator]\n    deny: *a'), [
    /alias \*a is not supported/
  ])
})

t.test('loading tells the same problems in its error', async t => {
  const error = await loadPolicy(policyWith('camera:view', 'camera:vew'), 'p.yaml').catch((error: unknown) => error)
  if (!(error instanceof PolicyInvalid)) throw new Error('a faulty policy was loaded')
  t.equal(error.code, 'MARTY_RBAC_POLICY_INVALID')
  t.equal(
    error.message,
    'The policy has a problem:\n' +
      '  p.yaml:8:13: "camera" does not have the action "vew"; did you mean "view", declared in line 3 and used nowhere?'
  )
})

t.test('the schema tells what a condition does to an allow and to a deny', async t => {
  const {
    properties: {
      roles: { patternProperties }
    }
  } = policyJsonSchema() as {
    properties: {
      roles: {
        patternProperties: Record<
          string,
          {
            properties: Record<
              'allow' | 'deny',
              { items: { anyOf: ReadonlyArray<{ properties?: { when: { description: string } } }> } }
            >
          }
        >
      }
    }
  }
  const [
    {
      properties: { allow, deny }
    }
  ] = Object.values(patternProperties) as [(typeof patternProperties)[string]]
  t.match(allow.items.anyOf.at(-1)?.properties?.when.description, /^The entry applies only when this holds: /)
  t.match(
    deny.items.anyOf.at(-1)?.properties?.when.description,
    /^The entry applies unless this is known not to hold: /
  )
})

t.test('whatever damages the shape is told: no damage slips through the fast check', async t => {
  const schema = policyJsonSchema()
  const sound = parseYaml(POLICY, 'p').source!.value
  const damage = fc.record({
    at: fc.array(fc.nat(20), { minLength: 1, maxLength: 6 }),
    key: fc.constantFrom('deny', 'when', 'x', 'Name', ''),
    value: fc.oneof(
      fc.constantFrom(null, true, 5, '', 'camera:view', 'a', {}, []),
      fc.array(fc.constantFrom('a', 'a:b', 5)),
      fc.dictionary(fc.constantFrom('permission', 'roles', 'x'), fc.constant('a:b'))
    )
  })
  let refused = 0
  fc.assert(
    fc.property(damage, ({ at, key, value }) => {
      const document = damaged(sound, at, key, value)
      const problems = problemsOf(JSON.stringify(document))
      if (Value.Check(schema, document)) return
      refused++
      if (problems.length === 0) throw new Error(JSON.stringify(document))
    }),
    { numRuns: 200 }
  )
  t.ok(refused > 40, `${refused} of 200 were damaged`)
})

/** The document with something else at a place, or with one more entry there when the way ends early. */
function damaged (node: unknown, [step, ...rest]: readonly number[], key: string, value: unknown): unknown {
  if (step === undefined || typeof node !== 'object' || node === null) return value
  const entries = Object.entries(node)
  const [name, member] = entries[step % (entries.length + 1)] ?? [key, undefined]
  if (Array.isArray(node)) {
    return node.map((item, index) => (String(index) === name ? damaged(item, rest, key, value) : item))
  }
  return { ...node, [name]: damaged(member, rest, key, value) }
}

t.test('a process that lets no code be made out of text reads policies all the same', async t => {
  const script = `import { checkPolicy, loadPolicy } from '@marty/rbac'
    const policy = await loadPolicy(process.argv[1], 'p')
    console.log(policy.decide(['viewer'], 'camera:view', 'prod'), checkPolicy('version: 2\\n', 'p').problems.length)`
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--disallow-code-generation-from-strings', '--input-type=module', '--eval', script, POLICY],
    { cwd: import.meta.dirname }
  )
  t.equal(stdout, 'true 4\n')
})
