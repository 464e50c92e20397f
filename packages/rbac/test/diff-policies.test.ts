import fc from 'fast-check'
import t from 'tap'
import { diffPolicies, loadPolicy, type Policy, type PolicyChange } from '@marty/rbac'
import { PERMISSIONS, randomPolicy, randomQuestion, ROLES, SERVICES, write } from './random-policy.js'

interface Text {
  roles?: string
  production?: string
  extra?: string
  environments?: string
}

const policyOf = async ({ roles = '', production = '{}', extra = '', environments }: Text): Promise<Policy> =>
  await loadPolicy(
    `version: 1
resources: { doc: { actions: [read, write], attributes: { owner: text, size: number } } }
roles:
${roles}
environments: ${environments ?? `{ development: {}, production: ${production} }`}
${extra}
`,
    'policy.yaml'
  )

const diff = async (before: Text, after: Text): Promise<readonly PolicyChange[]> =>
  diffPolicies(await policyOf(before), await policyOf(after)).changes

const READER = "  reader: { allow: ['doc:read'] }"
const WRITER = "  writer: { allow: ['doc:write'] }"
const when = (text: string): string => `  reader: { allow: [{ permission: 'doc:read', when: '${text}' }] }`
const read = { subject: 'reader', permission: 'doc:read', environments: ['development', 'production'] }

t.test('every kind of widening and narrowing is told', async t => {
  const cases: ReadonlyArray<readonly [string, Text, Text, readonly unknown[]]> = [
    [
      'a new role',
      { roles: WRITER },
      { roles: `${WRITER}\n${READER}` },
      [{ ...read, before: 'denied', after: 'allowed', kind: 'gain' }]
    ],
    [
      'a role that goes',
      { roles: `${WRITER}\n${READER}` },
      { roles: WRITER },
      [{ ...read, before: 'allowed', after: 'denied', kind: 'loss' }]
    ],
    [
      'a deny in one environment that goes',
      { roles: READER, production: "{ deny: [{ roles: [reader], permissions: ['doc:*'] }] }" },
      { roles: READER },
      [{ ...read, environments: ['production'], before: 'denied', after: 'allowed', kind: 'gain' }]
    ],
    [
      'a condition that goes',
      { roles: when('resource.size < 5') },
      { roles: READER },
      [{ ...read, before: { if: 'resource.size < 5' }, after: 'allowed', kind: 'gain' }]
    ],
    [
      'a condition that comes',
      { roles: READER },
      { roles: when('resource.size < 5') },
      [{ ...read, before: 'allowed', after: { if: 'resource.size < 5' }, kind: 'loss' }]
    ],
    [
      'a wider condition',
      { roles: when('resource.size < 5') },
      { roles: when('resource.size < 6') },
      [{ ...read, before: { if: 'resource.size < 5' }, after: { if: 'resource.size < 6' }, kind: 'gain' }]
    ],
    [
      'quite another condition',
      { roles: when('resource.size < 5') },
      { roles: when('resource.size > 6') },
      [{ ...read, before: { if: 'resource.size < 5' }, after: { if: 'resource.size > 6' }, kind: 'maybe' }]
    ],
    [
      'one more condition to allow it',
      { roles: when('resource.size < 5') },
      { roles: when('resource.size < 5 or resource.owner == "a" and resource.size > 9') },
      [
        {
          ...read,
          before: { if: 'resource.size < 5' },
          after: { if: 'resource.owner == "a" and resource.size > 9 or resource.size < 5' },
          kind: 'gain'
        }
      ]
    ],
    [
      'one more condition to meet',
      { roles: when('resource.size < 5 or resource.size > 9') },
      { roles: when('(resource.size < 5 or resource.size > 9) and resource.owner == "a"') },
      [
        {
          ...read,
          before: { if: 'resource.size < 5 or resource.size > 9' },
          after: { if: 'resource.owner == "a" and (resource.size < 5 or resource.size > 9)' },
          kind: 'loss'
        }
      ]
    ],
    [
      'a requirement that goes',
      { roles: READER, production: "{ require: [{ permissions: ['doc:*'], when: 'resource.owner == \"a\"' }] }" },
      { roles: READER },
      [
        {
          ...read,
          environments: ['production'],
          before: { if: 'resource.owner == "a"' },
          after: 'allowed',
          kind: 'gain'
        }
      ]
    ],
    [
      'a new environment',
      { roles: READER },
      { roles: READER, environments: '{ development: {}, production: {}, staging: {} }' },
      [{ ...read, environments: ['staging'], before: 'denied', after: 'allowed', kind: 'gain' }]
    ],
    [
      'an alias that moved',
      {
        roles: READER,
        environments:
          "{ development: { aliases: [live] }, production: { deny: [{ roles: [reader], permissions: ['doc:*'] }] } }"
      },
      {
        roles: READER,
        environments:
          "{ development: {}, production: { aliases: [live], deny: [{ roles: [reader], permissions: ['doc:*'] }] } }"
      },
      [{ ...read, environments: ['live'], before: 'allowed', after: 'denied', kind: 'loss' }]
    ],
    [
      'a service that may call',
      { roles: WRITER, extra: 'services: { one: {}, two: {} }' },
      { roles: WRITER, extra: "services: { one: { may: [{ call: two, permissions: ['doc:read'] }] }, two: {} }" },
      [{ ...read, subject: 'one calls two', before: 'denied', after: 'allowed', kind: 'gain' }]
    ],
    [
      'a separation that goes',
      { roles: `${READER}\n${WRITER}`, extra: 'separation: [{ roles: [reader, writer] }]' },
      { roles: `${READER}\n${WRITER}` },
      ['read', 'write'].map(action => ({
        ...read,
        subject: 'reader + writer',
        permission: `doc:${action}`,
        before: 'denied',
        after: 'allowed',
        kind: 'gain'
      }))
    ],
    [
      'a separation that goes, for a third role',
      { roles: `${READER}\n  a: { allow: ['doc:read'] }\n  b: {}`, extra: 'separation: [{ roles: [a, b] }]' },
      { roles: `${READER}\n  a: {}\n  b: {}` },
      [
        { ...read, subject: 'a', before: 'allowed', after: 'denied', kind: 'loss' },
        { ...read, subject: 'reader + a + b', before: 'denied', after: 'allowed', kind: 'gain' }
      ]
    ],
    [
      'one of two requirements that goes',
      {
        roles: `${READER}\n  a: {}\n  b: {}`,
        production: "{ require: [{ permissions: ['doc:*'], roles: [a] }, { permissions: ['doc:*'], roles: [b] }] }"
      },
      { roles: `${READER}\n  a: {}\n  b: {}`, production: "{ require: [{ permissions: ['doc:*'], roles: [b] }] }" },
      [
        {
          ...read,
          environments: ['production'],
          subject: 'reader + b',
          before: 'denied',
          after: 'allowed',
          kind: 'gain'
        }
      ]
    ],
    [
      'a requirement for calls that goes',
      {
        roles: '  a: {}',
        production: "{ require: [{ permissions: ['doc:*'], roles: [a], when: 'resource.size < 5' }] }",
        extra: "services: { one: { may: [{ call: two, permissions: ['doc:read'] }] }, two: {} }"
      },
      {
        roles: '  a: {}',
        production: "{ require: [{ permissions: ['doc:*'], roles: [a] }] }",
        extra: "services: { one: { may: [{ call: two, permissions: ['doc:read'] }] }, two: {} }"
      },
      [
        {
          ...read,
          environments: ['production'],
          subject: 'a + one calls two',
          before: { if: 'resource.size < 5' },
          after: 'allowed',
          kind: 'gain'
        }
      ]
    ],
    [
      'a role that only takes away, and goes',
      { roles: `${READER}\n  banned: { deny: ['doc:*'] }` },
      { roles: `${READER}\n  banned: {}` },
      [{ ...read, subject: 'reader + banned', before: 'denied', after: 'allowed', kind: 'gain' }]
    ]
  ]
  for (const [what, before, after, expected] of cases) t.same(await diff(before, after), expected, what)
})

t.test('what says the same in other words is no difference', async t => {
  const same: ReadonlyArray<readonly [string, string]> = [
    ['resource.size<5   and resource.owner == "a"', 'resource.owner == "a" and (resource.size < 5)'],
    ['resource.size < 5 or resource.size < 5 and resource.owner == "a"', 'resource.size < 5'],
    ['not (not (resource.size < 5))', 'resource.size < 5 or resource.size < 5'],
    ['resource.owner in ["a\\\\b"]', 'environment in ["development", "production"] and resource.owner in ["a\\\\b"]'],
    [
      '(resource.size < 5 or resource.size < 9) and resource.size < 6',
      'resource.size < 6 and (resource.size < 9 or resource.size < 5)'
    ]
  ]
  for (const [a, b] of same) t.same(await diff({ roles: when(a) }, { roles: when(b) }), [], b)
  t.match(
    await diff({ roles: READER }, { roles: when('environment == "production"') }),
    [{ environments: ['development'], before: 'allowed', after: 'denied' }],
    'worked out for each environment'
  )
  t.match(await diff({ roles: WRITER }, { roles: when('resource.owner == environment') }), [
    { after: { if: 'resource.owner == "development"' } },
    { after: { if: 'resource.owner == "production"' } }
  ])
  t.match(
    await diff(
      { roles: WRITER },
      { roles: when('(resource.size < 5 or resource.size > 9) and resource.owner != "a"') }
    ),
    [{ after: { if: 'resource.owner != "a" and (resource.size < 5 or resource.size > 9)' } }]
  )
})

const BASE = `version: 1
resources:
  doc: { actions: [read, edit], attributes: { owner: text } }
roles:
  reader: { allow: ['doc:read'] }
  author: { inherits: [reader], allow: [{ permission: 'doc:edit', when: resource.owner == principal.id }] }
  auditor: {}
environments:
  development: { aliases: [dev] }
  production:
    aliases: [prod]
    deny: [{ roles: [author], permissions: ['doc:edit'] }]
services:
  robot: { may: [{ call: store, permissions: ['doc:read'] }] }
  store: {}
separation:
  - { roles: [author, auditor] }
`
const load = async (text: string): Promise<Policy> => await loadPolicy(text, 'policy.yaml')
const base = await load(BASE)
const changed = async (...edits: ReadonlyArray<readonly [string, string]>): Promise<readonly PolicyChange[]> =>
  diffPolicies(
    base,
    await load(
      edits.reduce((text, [from, to]) => {
        if (!text.includes(from)) throw new Error(from)
        return text.replace(from, to)
      }, BASE)
    )
  ).changes

t.test('what widens is never missed', async t => {
  t.same(diffPolicies(base, base), { changes: [], incomplete: [] })
  t.match(
    (await changed(["    deny: [{ roles: [author], permissions: ['doc:edit'] }]\n", '']))[0],
    {
      subject: 'author',
      permission: 'doc:edit',
      kind: 'gain',
      before: 'denied',
      after: { if: 'resource.owner == principal.id' },
      environments: ['production']
    },
    'a deny that is gone'
  )
  const open = await changed(["{ permission: 'doc:edit', when: resource.owner == principal.id }", "'doc:edit'"])
  t.match(
    open.filter(({ subject }) => subject === 'author'),
    [
      {
        kind: 'gain',
        before: { if: 'resource.owner == principal.id' },
        after: 'allowed',
        environments: ['development']
      }
    ],
    'a condition that is gone'
  )
  t.match(
    await changed(['resource.owner == principal.id', 'resource.owner != principal.id']),
    [{ subject: 'author', kind: 'maybe' }],
    'a condition that is another'
  )
  t.match(
    (await changed(['  auditor: {}', "  auditor: {}\n  guest: { allow: ['doc:read'] }"]))[0],
    { subject: 'guest', kind: 'gain', environments: ['development', 'production'] },
    'a new role'
  )
  t.match(
    (await changed(['separation:\n  - { roles: [author, auditor] }\n', ''])).map(
      ({ subject, kind }) => `${subject} ${kind}`
    ),
    ['author + auditor gain', 'author + auditor gain'],
    'a separation that is gone'
  )
  t.match(
    await changed(["permissions: ['doc:read'] }] }", "permissions: ['doc:read', 'doc:edit'] }] }"]),
    [{ subject: 'robot calls store', permission: 'doc:edit', kind: 'gain' }],
    'a service that may more'
  )
  t.match(
    (await changed(['  development: { aliases: [dev] }', '  development: { aliases: [dev] }\n  staging: {}'])).filter(
      ({ subject }) => subject === 'reader'
    ),
    [{ permission: 'doc:read', kind: 'gain', environments: ['staging'] }],
    'a new environment'
  )
})

t.test('a condition on the environment means another one when names change hands', async t => {
  const text = BASE.replace('resource.owner == principal.id', 'environment == "prod"')
  const moved = text.replace('aliases: [dev]', 'aliases: [dev, prod]').replace('    aliases: [prod]\n', '')
  t.match(diffPolicies(await load(text), await load(moved)).changes, [
    { subject: 'author', permission: 'doc:edit', kind: 'gain', environments: ['development', 'prod'] }
  ])
})

t.test('what narrows is told as a loss', async t => {
  t.match(await changed(["  reader: { allow: ['doc:read'] }", '  reader: {}']), [
    { subject: 'reader', kind: 'loss' },
    { subject: 'author', kind: 'loss' }
  ])
})

t.test('where too many roles matter together, that is told', async t => {
  const names = Array.from({ length: 90 }, (_, index) => `r${index}`)
  const roles = (banned: string): string =>
    [`  banned: ${banned}`, ...names.map(name => `  ${name}: { allow: ['doc:read'] }`)].join('\n')
  t.match(
    await diff({ roles: roles('{}') }, { roles: roles("{ deny: ['doc:read'] }") }),
    { length: 90 },
    'all that are affected'
  )
  const more = (banned: string): Text => ({
    roles: `${roles(banned)}\n${roles('{}').replace('banned', 'other').replaceAll('  r', '  s')}`
  })
  const { changes, incomplete } = diffPolicies(
    await policyOf(more("{ deny: ['doc:read'] }")),
    await policyOf(more('{}'))
  )
  t.equal(changes.length, 100)
  t.same(incomplete, [{ permission: 'doc:read', environments: ['development', 'production'], upTo: 1 }])

  const each = names
    .map((name, index) => `  ${name}: { allow: [{ permission: 'doc:read', when: 'resource.size > ${index}' }] }`)
    .join('\n')
  const needing = (last: number): Text => ({
    roles: each,
    production: `{ require: [${[0, 30, 60]
      .slice(0, last)
      .map(from => `{ permissions: ['doc:*'], roles: [${names.slice(from, from + 30).join()}] }`)
      .join()}] }`
  })
  t.same(diffPolicies(await policyOf(needing(3)), await policyOf(needing(2))).incomplete, [
    { permission: 'doc:read', environments: ['production'], upTo: 1 }
  ])
  // Millions of sets fulfil the requirements, of which few hold what changed.
  const extra = ({ roles, ...rest }: Text, allow: string): Text => ({ ...rest, roles: `${roles}\n  extra: ${allow}` })
  t.match(
    diffPolicies(await policyOf(extra(needing(2), '{}')), await policyOf(extra(needing(2), "{ allow: ['doc:read'] }"))),
    { changes: { length: 901 }, incomplete: [] }
  )
})

t.test('no change of a decision goes untold, whatever the policies and the caller', async t => {
  const flips = { gain: 0, loss: 0, together: 0, calls: 0, parts: 0 }
  await fc.assert(
    fc.asyncProperty(
      randomPolicy,
      randomPolicy,
      fc.array(randomQuestion, { minLength: 40, maxLength: 40 }),
      fc.nat(4),
      async (one, other, asked, mixed) => {
        // Policies that differ a little are what is compared in life.
        const part = [
          other,
          { roles: other.roles, separation: [] },
          { denies: other.denies, requires: other.requires },
          { separation: [], calls: other.calls },
          { requires: [] }
        ][mixed]!
        const [before, after] = (await Promise.all(
          [one, { ...one, ...part }].sort(() => (mixed % 2) - 0.5).map(async made => await load(write(made)))
        )) as [Policy, Policy]
        const { changes, incomplete } = diffPolicies(before, after)
        const told = (
          holders: readonly string[],
          permission: string,
          environment: string,
          kind: PolicyChange['kind']
        ): boolean =>
          changes.some(
            change =>
              change.permission === permission &&
              change.environments.includes(environment) &&
              (change.kind === kind || change.kind === 'maybe') &&
              change.subject.split(' + ').every(member => holders.includes(member))
          )
        for (const [
          index,
          {
            roles,
            environment,
            attributes: { ...attributes }
          }
        ] of asked.entries()) {
          // Few would be services by chance.
          if (index % 4 === 0) {
            Object.assign(attributes, {
              principal: { kind: 'service', id: SERVICES[index % 3] },
              service: SERVICES[(index % 7) % 3]
            })
          }
          const { principal, service } = attributes
          const held = roles.filter(role => ROLES.includes(role))
          const call =
            principal?.kind === 'service' && principal.id !== undefined && service !== undefined
              ? [`${principal.id} calls ${service}`]
              : []
          for (const permission of PERMISSIONS) {
            const [was, is] = [before, after].map(policy => policy.decide(roles, permission, environment, attributes))
            if (was === is) continue
            const kind = is === true ? 'gain' : 'loss'
            flips[kind]++
            if (held.length > 2) flips.together++
            if (held.length === 0) flips.calls++
            if (
              incomplete.some(
                one =>
                  one.permission === permission &&
                  one.environments.includes(environment) &&
                  held.length + call.length > one.upTo
              )
            ) {
              continue
            }
            if (!told([...held, ...call], permission, environment, kind)) {
              throw new Error(`${[...held, ...call].join(' + ')}: ${kind} of ${permission} in ${environment} is untold`)
            }
          }
        }
        if (changes.some(({ subject }) => subject.split(' + ').length > 2)) flips.parts++
      }
    ),
    { numRuns: 60, interruptAfterTimeLimit: 15_000 }
  )
  t.comment(flips)
  for (const [what, number] of Object.entries(flips)) t.ok(number > 0, what)
})
