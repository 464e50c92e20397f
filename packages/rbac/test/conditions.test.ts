import t from 'tap'
import { checkPolicy, loadPolicy, type Attributes, type Policy } from '@marty/rbac'

const HEAD = `version: 1
resources:
  doc: { actions: [read], attributes: { owner: text, level: number, open: boolean, tags: list, class: [public, secret] } }
  other: { actions: [read], attributes: { level: text, class: [private] } }
environments: { development: { aliases: [dev] }, production: { aliases: [prod] } }
`
const withRule = (effect: 'allow' | 'deny', when: string): string => `${HEAD}roles:
  reader: { allow: ['doc:read'] }
  tested: { ${effect}: [{ permission: 'doc:read', when: ${JSON.stringify(when)} }] }
`
const mistakes = (when: string): string[] =>
  checkPolicy(withRule('allow', when), 'p.yaml').problems.map(({ message }) => message)

/** `true`, `false` or `unknown`: told apart by what an allow and a deny make of it. */
async function truth (when: string, attributes: Attributes = {}): Promise<string> {
  const ask = async (effect: 'allow' | 'deny', held: string[]): Promise<boolean> => {
    const policy = await loadPolicy(withRule(effect, when), 'p.yaml')
    const answer = policy.decide(held, 'doc:read', 'dev', attributes)
    t.equal(policy.decideByCasbin(held, 'doc:read', 'dev', attributes), answer)
    t.equal(policy.explain(held, 'doc:read', 'dev', attributes).allowed, answer)
    return answer
  }
  const allowed = await ask('allow', ['tested'])
  const denied = !(await ask('deny', ['reader', 'tested']))
  if (allowed) return denied ? 'true' : 'impossible'
  return denied ? 'unknown' : 'false'
}
const of = (resource: Record<string, unknown>): Attributes => ({ resource })

t.test('what is missing is unknown: it lets no allow in and no deny out', async t => {
  for (const when of [
    'resource.owner == "a"',
    'resource.owner != "a"',
    'not resource.owner == "a"',
    'not (resource.owner != "a")',
    'resource.owner in ["a"]',
    'not resource.owner in ["a"]',
    'resource.level < 5',
    'not resource.level < 5',
    'principal.id == resource.owner',
    'principal.id != "a"',
    '"a" in resource.tags',
    'not "a" in principal.scopes',
    'principal.claims.team == "a"',
    'not principal.claims.deep.er.than == "a"',
    'principal.kind == "user"'
  ]) {
    t.equal(await truth(when), 'unknown', when)
  }
})

t.test('two attributes that are missing, or no values, are not equal', async t => {
  for (const owner of [undefined, null, NaN, {}, [], () => 'a', Promise.resolve('a'), Symbol('a'), 5n]) {
    t.equal(
      await truth('resource.owner == principal.claims.team', {
        resource: { owner },
        principal: { claims: { team: owner } }
      }),
      'unknown',
      typeof owner
    )
    t.equal(
      await truth('resource.owner != principal.claims.team', {
        resource: { owner },
        principal: { claims: { team: owner } }
      }),
      'unknown',
      typeof owner
    )
  }
})

t.test('values of different types are neither equal nor unequal', async t => {
  t.equal(await truth('resource.owner == "5"', of({ owner: 5 })), 'unknown')
  t.equal(await truth('resource.owner != "5"', of({ owner: 5 })), 'unknown')
  t.equal(await truth('resource.level == 1', of({ level: true })), 'unknown')
  t.equal(await truth('resource.level < 5', of({ level: '4' })), 'unknown')
  t.equal(await truth('resource.level < 5', of({ level: Infinity })), 'unknown')
  t.equal(
    await truth('resource.owner == "a"', of({ owner: ['a'] })),
    'unknown',
    "['a'] is no text, though JavaScript's == says so"
  )
  t.equal(await truth('resource.owner in ["a", "b"]', of({ owner: 1 })), 'unknown')
  t.equal(await truth('"a" in resource.tags', of({ tags: 'a' })), 'unknown', 'a text is no list')
  t.equal(await truth('"a" in resource.tags', of({ tags: { includes: () => true } })), 'unknown')
  t.equal(
    await truth('"a" in resource.tags', of({ tags: [1, 'b'] })),
    'unknown',
    'not found, but not all of it was comparable'
  )
  t.equal(await truth('"a" in resource.tags', of({ tags: [1, 'a'] })), 'true')
  t.equal(await truth('"a" in resource.tags', of({ tags: [] })), 'false')
})

t.test('only own properties are read', async t => {
  class Owned {
    get owner (): string {
      return 'a'
    }
  }
  t.equal(
    await truth('resource.owner == "a"', { resource: new Owned() as unknown as Record<string, unknown> }),
    'unknown'
  )
  t.equal(
    await truth('resource.owner == "a"', { resource: Object.create({ owner: 'a' }) as Record<string, unknown> }),
    'unknown'
  )
  t.equal(await truth('principal.claims.toString == "a"', { principal: { claims: {} } }), 'unknown')
  t.equal(await truth('resource.owner == "a"', { resource: 'text' as unknown as Record<string, unknown> }), 'unknown')
  for (const name of ['__proto__', 'constructor', 'prototype']) {
    t.match(mistakes(`principal.claims.${name}.name == "Object"`), [/is not allowed/])
  }
})

t.test('comparisons', async t => {
  const cases: ReadonlyArray<readonly [string, Attributes, string]> = [
    ['resource.owner == "a"', of({ owner: 'a' }), 'true'],
    ['resource.owner == "a"', of({ owner: 'A' }), 'false'],
    ['resource.owner != "a"', of({ owner: 'b' }), 'true'],
    ["resource.owner == 'it\\'s \\\\'", of({ owner: "it's \\" }), 'true'],
    ['resource.open == true', of({ open: true }), 'true'],
    ['resource.open == false', of({ open: true }), 'false'],
    ['resource.level < 5', of({ level: 5 }), 'false'],
    ['resource.level <= 5', of({ level: 5 }), 'true'],
    ['resource.level > -1.5', of({ level: -1 }), 'true'],
    ['resource.level >= 5', of({ level: 4 }), 'false'],
    ['resource.class in ["secret"]', of({ class: 'secret' }), 'true'],
    ['resource.level in [1, 2]', of({ level: 3 }), 'false'],
    ['principal.id == resource.owner', { principal: { id: 'ada' }, resource: { owner: 'ada' } }, 'true'],
    ['principal.kind in ["user", "key"]', { principal: { kind: 'service' } }, 'false'],
    ['"write" in principal.scopes', { principal: { scopes: ['read', 'write'] } }, 'true'],
    [
      'resource.owner in principal.claims.org.teams',
      { principal: { claims: { org: { teams: ['x'] } } }, resource: { owner: 'x' } },
      'true'
    ],
    ['"tested" in principal.roles', {}, 'true'],
    ['environment in ["dev"]', {}, 'true'],
    ['environment == "prod"', {}, 'false']
  ]
  for (const [when, attributes, expected] of cases) {
    t.equal(await truth(when, attributes), expected, when)
  }
})

t.test('three values are combined as Kleene does', async t => {
  const T = 'resource.level == 1'
  const F = 'resource.level == 2'
  const U = 'resource.owner == "a"'
  const table: ReadonlyArray<readonly [string, string]> = [
    [`${T} and ${T}`, 'true'],
    [`${T} and ${F}`, 'false'],
    [`${F} and ${T}`, 'false'],
    [`${U} and ${T}`, 'unknown'],
    [`${T} and ${U}`, 'unknown'],
    [`${U} and ${F}`, 'false'],
    [`${F} and ${U}`, 'false'],
    [`${T} or ${U}`, 'true'],
    [`${U} or ${T}`, 'true'],
    [`${U} or ${F}`, 'unknown'],
    [`${F} or ${F}`, 'false'],
    [`not (${U})`, 'unknown'],
    [`not ${T}`, 'false'],
    [`not not ${F}`, 'false'],
    // and binds tighter than or, not tighter than and
    [`${T} or ${F} and ${F}`, 'true'],
    [`(${T} or ${F}) and ${F}`, 'false'],
    [`not ${F} and ${F}`, 'false'],
    [`not (${F} and ${F})`, 'true']
  ]
  for (const [when, expected] of table) t.equal(await truth(when, of({ level: 1 })), expected, when)
})

t.test('time windows are wall-clock time of their zone', async t => {
  const at = async (window: string, moment: string): Promise<string> =>
    await truth(`time in "${window}"`, { time: Date.parse(moment) })
  const cases: ReadonlyArray<readonly [string, string, string]> = [
    ['08:00-18:00 UTC', '2025-01-15T07:59:59.999Z', 'false'],
    ['08:00-18:00 UTC', '2025-01-15T08:00:00Z', 'true'],
    ['08:00-18:00 UTC', '2025-01-15T18:00:00Z', 'false'],
    ['08:00-24:00 UTC', '2025-01-15T23:59:59Z', 'true'],
    ['08:00-18:00 Europe/Berlin', '2025-01-15T07:00:00Z', 'true'],
    ['08:00-18:00 Europe/Berlin', '2025-07-15T06:00:00Z', 'true'],
    ['08:00-18:00 Europe/Berlin', '2025-01-15T06:00:00Z', 'false'],
    // The hour that does not exist, and the one that comes twice.
    ['02:00-03:00 Europe/Berlin', '2025-03-30T01:00:00Z', 'false'],
    ['02:00-03:00 Europe/Berlin', '2025-10-26T00:30:00Z', 'true'],
    ['02:00-03:00 Europe/Berlin', '2025-10-26T01:30:00Z', 'true'],
    ['Mon-Fri 08:00-18:00 UTC', '2025-01-18T12:00:00Z', 'false'],
    ['Sat,Sun UTC', '2025-01-18T12:00:00Z', 'true'],
    ['Sat-Mon UTC', '2025-01-20T12:00:00Z', 'true'],
    ['Sat-Mon UTC', '2025-01-21T12:00:00Z', 'false'],
    // Over midnight: the morning after belongs to the day before.
    ['Fri 22:00-06:00 UTC', '2025-01-18T05:59:00Z', 'true'],
    ['Fri 22:00-06:00 UTC', '2025-01-17T05:59:00Z', 'false'],
    ['Fri 22:00-06:00 UTC', '2025-01-17T22:00:00Z', 'true'],
    ['Sun 22:00-06:00 Asia/Kathmandu', '2025-01-19T23:00:00Z', 'true']
  ]
  for (const [window, moment, expected] of cases) t.equal(await at(window, moment), expected, `${window} at ${moment}`)
  for (const time of [NaN, Infinity, 1e300]) {
    t.equal(await truth('time in "00:00-24:00 UTC"', { time }), 'unknown', 'a moment that is none')
  }
})

t.test('the clock can be given, and an answer follows it', async t => {
  let now = Date.parse('2025-01-15T07:59:59Z')
  const policy: Policy = await loadPolicy(withRule('allow', 'time in "08:00-18:00 UTC"'), 'p.yaml', {
    clock: () => now
  })
  t.notOk(policy.decide(['tested'], 'doc:read', 'dev'))
  now += 1000
  t.ok(policy.decide(['tested'], 'doc:read', 'dev'))
  t.ok(policy.decide(['tested'], 'doc:read', 'dev'), 'again in the same minute')
  t.match(policy.explain(['tested'], 'doc:read', 'dev'), {
    allowed: true,
    rule: { condition: { values: { time: now } } }
  })
  now += 10 * 3_600_000
  t.notOk(policy.decide(['tested'], 'doc:read', 'dev'))
  const real = await loadPolicy(withRule('allow', 'time in "00:00-24:00 UTC"'), 'p.yaml')
  t.ok(real.decide(['tested'], 'doc:read', 'dev'))
})

t.test('what cannot be read is told', async t => {
  const cases: ReadonlyArray<readonly [string, RegExp]> = [
    ['', /at least 1 char/],
    ['   ', /expected a value, found the end/],
    ['resource.owner = "a"', /cannot read "="; write == to compare/],
    ['resource.owner == "a" && true == true', /cannot read "&"; write and/],
    ['resource.owner == "a" || true == true', /cannot read "\|"; write or/],
    ['!resource.open', /cannot read "!"; write not/],
    ['resource.owner == "a" AND resource.owner == "b"', /expected and, or, or the end, found AND; write and/],
    ['resource.owner == "a', /cannot read "\\""; the string is not closed/],
    ['resource.owner == "\\n"', /the string is not closed, or has a \\ before/],
    ['resource.owner == a', /there is no attribute a/],
    ['resource.owner', /expected one of == != < <= > >= in, found the end/],
    ['resource.owner == ', /expected a value, found the end/],
    ['resource.owner == and', /expected a value, found and/],
    ['resource.owner in [a]', /expected a value, found a; put a string in quotes/],
    ['resource.owner in []', /expected a value, found \]/],
    ['resource.owner in ["a" "b"]', /expected \], found the string "b"/],
    ['(resource.open == true', /expected \), found the end/],
    ['resource.open == true)', /expected and, or, or the end, found \)/],
    ['1 < resource.level < 5', /comparisons cannot be chained; join them with and/],
    ['resource.level == 1.', /cannot read "1"/],
    ['resource.level == 0x10', /cannot read "0"/],
    ['resource..owner == "a"', /cannot read "\."/],
    ['resource.owner == "a" # and more', /cannot read "#"/],
    ['process.exit() == 1', /expected one of/],
    [`${'('.repeat(25)}resource.open == true${')'.repeat(25)}`, /nested more than 20 levels/],
    [`${'not '.repeat(200)}resource.open == true`, /nested more than 20 levels/],
    [`resource.owner == "${'a'.repeat(1000)}"`, /at most 1000 characters/]
  ]
  for (const [when, message] of cases) t.match(mistakes(when).join('\n'), message, when.slice(0, 50))
})

t.test('what can never be is told', async t => {
  const cases: ReadonlyArray<readonly [string, RegExp]> = [
    ['1 == 1', /both sides are constant/],
    ['resource.ownr == "a"', /declare no attribute "ownr"; did you mean "owner"/],
    ['user.id == "a"', /there is no attribute user\.id/],
    ['principal.ids == "a"', /there is no attribute principal\.ids; did you mean "principal\.id"/],
    ['principal.claims == "a"', /there is no attribute principal\.claims/],
    ['resource.owner.name == "a"', /there is no attribute resource\.owner\.name/],
    ['principal.kind == "sevice"', /principal\.kind is never "sevice"; did you mean "service"/],
    ['"raeder" in principal.roles', /principal\.roles is never "raeder"; did you mean "reader"/],
    ['environment == "prodution"', /environment is never "prodution"; did you mean "production"/],
    ['resource.class in ["public", "secert"]', /resource\.class is never "secert"; did you mean "secret"/],
    ['resource.owner == 5', /a text is never equal to a number/],
    ['5 in principal.roles', /a number is never in a list of texts/],
    ['resource.level in ["a"]', /a number is never in a list of texts/],
    ['resource.owner in ["a", 1]', /items of a list must be of one type/],
    ['resource.owner in "a"', /in needs a list after it/],
    ['resource.tags in ["a"]', /a list cannot be in another list/],
    ['resource.tags == "a"', /a list cannot be compared with ==; use in/],
    ['resource.owner < "b"', /< compares numbers; this is a text/],
    ['time == "08:00"', /time can only be used as in time in/],
    ['"08:00" in time', /time can only be used as/],
    ['time in ["08:00"]', /time can only be used as/],
    ['time in "08:00-18:00"', /a time window is days/],
    ['time in "UTC"', /a time window is days/],
    ['time in "Mon Tue 08:00-18:00 UTC"', /a time window is days/],
    ['time in "08:00-18:00 Europe/Berln"', /there is no time zone "Europe\/Berln"; did you mean "Europe\/Berlin"/],
    ['time in "08:00-18:00 Nowhere"', /there is no time zone "Nowhere"/],
    ['time in "8:00-18:00 UTC"', /"8:00-18:00" is not a span of hours/],
    ['time in "08:00-25:00 UTC"', /is a time that does not exist/],
    ['time in "08:60-09:00 UTC"', /is a time that does not exist/],
    ['time in "08:00-08:00 UTC"', /ends at the time at which it begins/],
    ['time in "Mo-Fri UTC"', /"Mo-Fri" is not a day or a span of days/],
    ['time in "Mon-Wed-Fri UTC"', /is not a day or a span of days/]
  ]
  for (const [when, message] of cases) t.match(mistakes(when).join('\n'), message, when)
})

t.test('every mistake of every condition is told at once, where it stands', async t => {
  const text = `${HEAD}roles:
  a:
    allow:
      - permission: doc:read
        when: resource.ownr == "x" and resource.level == "y"
      - permission: other:read
        when: 'resource.level == ''it'' and resource.class == "privat"'
      - permission: doc:read
        when: "resource.owner == \\"x\\" or \\
          resource.opn == true"
      - permission: doc:read
        when: >
          resource.open == true
          and resource.clas == "secret"
      - permission: doc:read
        when: |
          resource.open == true
          and (
      - permission: doc:read
        when: resource.open == true
          and resource.tag == "x"
`
  t.same(
    checkPolicy(text, 'p.yaml').problems.map(
      ({ line, column, message }) => `${line}:${column} ${message.split(';')[0]}`
    ),
    [
      '10:15 the resources of this rule declare no attribute "ownr"',
      '10:55 a number is never equal to a text',
      '12:63 resource.class is never "privat"',
      '15:11 the resources of this rule declare no attribute "opn"',
      '19:15 the resources of this rule declare no attribute "clas"',
      '23:16 expected a value, found the end',
      '26:15 the resources of this rule declare no attribute "tag"'
    ]
  )
})

t.test('a rule for several resources may ask about what any of them declares', async t => {
  const anyResource = (when: string): string[] =>
    checkPolicy(
      `${HEAD}roles: { a: { allow: [{ permission: '*:read', when: ${JSON.stringify(when)} }] } }\n`,
      'p.yaml'
    ).problems.map(({ message }) => message)
  t.same(anyResource('resource.owner == "a"'), [])
  t.same(
    anyResource('resource.level == 5 or resource.level == "high"'),
    [],
    'what they declare differently could be either'
  )
  t.same(anyResource('resource.class in ["secret", "private"]'), [])
  t.match(anyResource('resource.class == "hidden"'), [/is never "hidden"/])
})
