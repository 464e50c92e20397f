import fc from 'fast-check'
import t from 'tap'
import { checkOptions, optionsInvalid, type OptionProblem, type OptionScope, type OptionTable } from '@marty/core'

interface Cors { readonly origins: readonly string[], readonly maxAgeSeconds?: number }
interface FileSink { readonly file: string, readonly mode?: 'sync' | 'async' }
interface RedisSink { readonly redis: { evalsha: () => void }, readonly ttlDays?: number }
interface Options {
  readonly name: string
  readonly environment?: 'staging' | 'production'
  readonly api?: boolean
  readonly path?: string | false
  readonly instances?: 'auto' | number
  readonly share?: number
  readonly cors?: Cors
  readonly hsts?: false | { readonly preload?: boolean }
  readonly limits?: Readonly<Record<string, number>>
  readonly probe?: () => void
  readonly secret?: string
  readonly url?: string
  readonly sink?: 'none' | FileSink | RedisSink
  readonly quota?: number | Readonly<Record<string, number>> | (() => number)
}
type Optional = 'probe' | 'secret' | 'url' | 'quota'
type Checked = Required<Omit<Options, Optional | 'cors' | 'hsts'>> & Pick<Options, Optional> & {
  readonly cors?: Required<Cors>
  readonly hsts: false | { readonly preload: boolean }
}

const CORS: OptionTable<Cors> = {
  origins: {
    kind: 'list',
    min: 1,
    items: { kind: 'string', pattern: /^https:/, expected: 'an origin such as "https://app.example.org"' },
    about: 'Origins.'
  },
  maxAgeSeconds: { kind: 'integer', min: 0, max: 7200, default: 600, about: 'How long.' }
}
const FILE: OptionTable<FileSink> = {
  file: { kind: 'string', about: 'Path.' },
  mode: { kind: 'choice', choices: ['sync', 'async'], default: 'sync', about: 'Mode.' }
}
const REDIS: OptionTable<RedisSink> = {
  redis: {
    kind: 'custom',
    expected: 'a Redis client',
    accepts: value => typeof (value as { evalsha?: unknown } | null)?.evalsha === 'function',
    about: 'Client.'
  },
  ttlDays: { kind: 'number', above: 0, default: 365, about: 'Days.' }
}
const TABLE: OptionTable<Options, Checked> = {
  name: { kind: 'string', maxLength: 8, about: 'Name.' },
  environment: { kind: 'choice', choices: ['staging', 'production'], default: 'production', about: 'Where.' },
  api: { kind: 'boolean', default: true, about: 'Api.' },
  path: { kind: 'string', or: [false], pattern: /^\//, expected: 'a path such as "/ws"', default: '/ws', about: 'Path.' },
  instances: { kind: 'integer', min: 1, or: ['auto'], default: 'auto', about: 'Instances.' },
  share: { kind: 'number', above: 0, max: 0.5, default: 0.1, about: 'Share.' },
  cors: { kind: 'object', options: CORS, optional: true, about: 'Cors.' },
  hsts: {
    kind: 'object',
    or: [false],
    options: { preload: { kind: 'boolean', default: false, about: 'Preload.' } },
    default: {},
    about: 'Hsts.'
  },
  limits: {
    kind: 'record',
    names: { pattern: /^[a-z]+$/, expected: 'lower case letters' },
    values: { kind: 'integer', min: 1 },
    default: {},
    about: 'Limits.'
  },
  probe: { kind: 'function', optional: true, about: 'Probe.' },
  secret: {
    kind: 'string', secret: true, pattern: /^.{8,}$/, expected: 'at least 8 characters', optional: true, about: 'Secret.'
  },
  url: { kind: 'string', verify: url => URL.canParse(url) ? null : 'is not a URL', optional: true, about: 'Url.' },
  sink: {
    kind: 'oneOf',
    or: ['none'],
    forms: { redis: { kind: 'object', options: REDIS }, file: { kind: 'object', options: FILE } },
    default: 'none',
    about: 'Sink.'
  },
  quota: {
    kind: 'either',
    kinds: [
      { kind: 'integer', min: 1 },
      {
        kind: 'record',
        values: { kind: 'integer', min: 1 },
        verify: (quota: Readonly<Record<string, number>>) => 'default' in quota ? null : 'needs a "default"'
      },
      { kind: 'function' }
    ],
    optional: true,
    about: 'Quota.'
  }
}

class Refused extends Error {
  readonly problems: readonly OptionProblem[]

  constructor (message: string, problems: readonly OptionProblem[]) {
    super(message)
    this.problems = problems
  }
}
const SCOPE: OptionScope = { subject: 'demo', refuse: (message, problems) => new Refused(message, problems) }

/** The message about options that the compiler would refuse as well. */
function refusalOf (given: unknown, scope: object = {}): string {
  try {
    checkOptions(TABLE, given as Options, { ...SCOPE, ...scope })
  } catch (error) {
    if (error instanceof Refused) return error.message
    throw error
  }
  return 'accepted'
}

t.test('fills in every default, also those of nested tables', async t => {
  t.strictSame({ ...checkOptions(TABLE, { name: 'a' }, SCOPE) }, {
    name: 'a',
    environment: 'production',
    api: true,
    path: '/ws',
    instances: 'auto',
    share: 0.1,
    cors: undefined,
    hsts: { preload: false },
    limits: {},
    probe: undefined,
    secret: undefined,
    url: undefined,
    sink: 'none',
    quota: undefined
  })
  const checked = checkOptions(TABLE, {
    name: 'a', cors: { origins: ['https://a.example'] }, hsts: false, sink: { file: '/log' }, instances: 3
  }, SCOPE)
  t.strictSame(checked.cors, { origins: ['https://a.example'], maxAgeSeconds: 600 })
  t.strictSame(checked.sink, { file: '/log', mode: 'sync' })
  t.equal(checked.hsts, false)
  t.equal(checked.instances, 3)
  for (const quota of [5, { default: 5, admin: 9 }, () => 5]) {
    t.strictSame(checkOptions(TABLE, { name: 'a', quota }, SCOPE).quota, quota)
  }
})

t.test('the result is a frozen copy', async t => {
  const given = { name: 'a', cors: { origins: ['https://a.example'] }, limits: { reads: 1 }, quota: { default: 1 } }
  const checked = checkOptions(TABLE, given, SCOPE)
  given.cors.origins.push('https://b.example')
  given.limits.reads = 9
  t.strictSame(checked.cors!.origins, ['https://a.example'])
  t.strictSame(checked.limits, { reads: 1 })
  for (const part of [checked, checked.cors, checked.cors!.origins, checked.limits, checked.quota]) {
    t.ok(Object.isFrozen(part))
  }
})

t.test('a member that is undefined counts as left out, null does not', async t => {
  t.equal(checkOptions(TABLE, { name: 'a', api: undefined } as unknown as Options, SCOPE).api, true)
  t.equal(refusalOf({ name: undefined }), 'demo option "name" is required; it must be a string of 1 to 8 characters')
  t.equal(refusalOf({ name: 'a', api: null }), 'demo option "api" must be true or false, not null')
})

const REFUSED: ReadonlyArray<readonly [given: object, message: string]> = [
  [{ nme: 'b' }, '"nme" is not known; did you mean "name"?'],
  [{ zebra: 1 }, `"zebra" is not known; known are ${Object.keys(TABLE).join(', ')}`],
  [{ name: '' }, '"name" must be a string of 1 to 8 characters, not an empty string'],
  [{ name: 'too long a name' }, '"name" must be a string of 1 to 8 characters, not "too long a name"'],
  [{ environment: 'prodution' },
    '"environment" must be "staging" or "production", not "prodution"; did you mean "production"?'],
  [{ api: 'yes' }, '"api" must be true or false, not "yes"'],
  [{ path: 'ws' }, '"path" must be false or a path such as "/ws", not "ws"'],
  [{ instances: 0 }, '"instances" must be "auto" or an integer of at least 1, not 0'],
  [{ instances: 'atuo' }, '"instances" must be "auto" or an integer of at least 1, not "atuo"; did you mean "auto"?'],
  [{ instances: 1.5 }, '"instances" must be "auto" or an integer of at least 1, not 1.5'],
  [{ share: 0 }, '"share" must be a number above 0 and at most 0.5, not 0'],
  [{ share: NaN }, '"share" must be a number above 0 and at most 0.5, not NaN'],
  [{ share: 1n }, '"share" must be a number above 0 and at most 0.5, not a bigint'],
  [{ cors: {} },
    '"cors.origins" is required; it must be a list with at least one item, each item an origin such as ' +
      '"https://app.example.org"'],
  [{ cors: { origins: [] } },
    '"cors.origins" must be a list with at least one item, each item an origin such as "https://app.example.org", ' +
      'not an empty list'],
  [{ cors: { origins: ['https://a', 'http://b'] } },
    '"cors.origins[1]" must be an origin such as "https://app.example.org", not "http://b"'],
  [{ cors: { origins: ['https://a'], maxAge: 1 } }, '"cors.maxAge" is not known; known are origins, maxAgeSeconds'],
  [{ cors: { origins: ['https://a'], maxAgeSeconds: 9000 } },
    '"cors.maxAgeSeconds" must be an integer from 0 to 7200, not 9000'],
  [{ cors: ['https://a'] }, '"cors" must be an object { origins, maxAgeSeconds }, not a list'],
  [{ hsts: true }, '"hsts" must be false or an object { preload }, not true'],
  [{ limits: { 'a b': 1 } }, '"limits.a b" has an invalid name: it must be lower case letters'],
  [{ limits: { reads: '5' } }, '"limits.reads" must be an integer of at least 1, not "5"'],
  [{ probe: {} }, '"probe" must be a function, not an empty object'],
  [{ url: 'nonsense' }, '"url" is not a URL'],
  [{ sink: 'redis' }, '"sink" must be "none", an object { redis, ttlDays } or an object { file, mode }, not a string ' +
    'of 5 characters'],
  [{ sink: { redis: {} } }, '"sink.redis" must be a Redis client, not an empty object'],
  [{ sink: { redis: { evalsha () {} }, mode: 'sync' } }, '"sink.mode" is not known; known are redis, ttlDays'],
  [{ sink: { mode: 'sync' } }, '"sink.file" is required; it must be a non-empty string'],
  [{ quota: 0 }, '"quota" must be an integer of at least 1, an object, each member an integer of at least 1 or a ' +
    'function, not 0'],
  [{ quota: { default: 5, admin: 0 } }, '"quota.admin" must be an integer of at least 1, not 0'],
  [{ quota: { admin: 5 } }, '"quota" needs a "default"']
]

t.test('names the field, says what is expected and what was given', async t => {
  for (const [given, message] of REFUSED) t.equal(refusalOf({ name: 'a', ...given }), `demo option ${message}`)
})

t.test('reports every problem of a call in one error', async t => {
  t.equal(refusalOf({ api: 1, cors: { origin: 'x' } }), [
    'demo option "name" is required; it must be a string of 1 to 8 characters',
    'demo option "api" must be true or false, not 1',
    'demo option "cors.origin" is not known; did you mean "origins"?',
    'demo option "cors.origins" is required; it must be a list with at least one item, each item an origin such as ' +
      '"https://app.example.org"'
  ].join('\n'))
  try {
    checkOptions(TABLE, { api: 1 } as unknown as Options, SCOPE)
    t.fail('accepted')
  } catch (error) {
    t.strictSame((error as Refused).problems.map(({ field }) => field), ['name', 'api'])
  }
})

t.test('never repeats what may be a secret', async t => {
  const password = 'hunter2'
  const places: readonly object[] = [
    { secret: password },
    { cors: password },
    { sink: password },
    { quota: password },
    { limits: password },
    { probe: password },
    { path: `redis://user:${password}@redis` },
    { environment: password.repeat(10) }
  ]
  for (const place of places) t.notMatch(refusalOf({ name: 'a', ...place }), password, JSON.stringify(place))
  t.equal(refusalOf({ name: 'a', secret: password }),
    'demo option "secret" must be at least 8 characters, not a string of 7 characters')
})

t.test('accepts the options of register where the options are those of a plugin', async t => {
  const given = { name: 'a', prefix: '/v1', logLevel: 'warn', logSerializers: {} }
  const checked = checkOptions(TABLE, given, { ...SCOPE, isPlugin: true })
  t.notOk('prefix' in checked || 'logLevel' in checked || 'logSerializers' in checked)
  t.match(refusalOf(given), /"prefix" is not known/)
  t.match(refusalOf({ name: 'a', hsts: { logLevel: 'warn' } }, { isPlugin: true }), /"hsts.logLevel" is not known/)
})

t.test('options that are no object are refused, none at all count as empty', async t => {
  t.equal(refusalOf(null), 'demo options must be an object, not null')
  t.equal(refusalOf([]), 'demo options must be an object, not an empty list')
  t.match(refusalOf(undefined), /^demo option "name" is required/)
})

t.test('options inside larger ones are named with their path', async t => {
  t.equal(refusalOf({ name: 'a', api: 1 }, { at: 'parts.demo' }),
    'demo option "parts.demo.api" must be true or false, not 1')
  t.equal(optionsInvalid(SCOPE, [{ field: 'path', problem: 'must differ from "other"' }]).message,
    'demo option "path" must differ from "other"')
})

t.test('properties: whatever is given, the result fits the table or the error names the field', async t => {
  const anything = fc.anything({ withNullPrototype: true, withBigInt: true, withDate: true, withMap: true })
  const member = fc.constantFrom(...Object.keys(TABLE), 'zebra', '__proto__', 'toString')
  fc.assert(fc.property(fc.array(fc.tuple(member, anything), { maxLength: 5 }), pairs => {
    const given = Object.fromEntries(pairs) as unknown as Options
    let checked: Readonly<Checked>
    try {
      checked = checkOptions(TABLE, given, SCOPE)
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      const known = [...Object.keys(TABLE), ...Object.keys(given)]
      return error.problems.every(({ field }) => known.some(name => field === name || field.startsWith(`${name}.`) ||
        field.startsWith(`${name}[`)))
    }
    return Object.isFrozen(checked) && Object.keys(given).every(name => Object.hasOwn(TABLE, name))
  }), { numRuns: 2_000 })
})

t.test('properties: what the check returns is accepted again, unchanged', async t => {
  const some = fc.record({
    name: fc.string({ minLength: 1, maxLength: 8 }),
    environment: fc.constantFrom('staging' as const, 'production' as const),
    instances: fc.oneof(fc.constant('auto' as const), fc.integer({ min: 1, max: 1000 })),
    share: fc.double({ min: 0, minExcluded: true, max: 0.5, noNaN: true }),
    cors: fc.record({ origins: fc.array(fc.constant('https://a.example'), { minLength: 1 }) }),
    hsts: fc.oneof(fc.constant(false as const), fc.record({ preload: fc.boolean() })),
    limits: fc.dictionary(fc.stringMatching(/^[a-z]+$/), fc.integer({ min: 1, max: 1000 }))
  }, { requiredKeys: ['name'] })
  fc.assert(fc.property(some, given => {
    const once = checkOptions(TABLE, given, SCOPE)
    t.strictSame({ ...checkOptions(TABLE, once as Options, SCOPE) }, { ...once })
  }), { numRuns: 300 })
})
