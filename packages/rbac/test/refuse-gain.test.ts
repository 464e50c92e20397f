import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import {
  checkPolicy,
  diffPolicies,
  loadPolicy,
  publishPolicy,
  rbac,
  testPolicy,
  type Policy,
  type RbacOptions
} from '@marty/rbac'
import { openRedis } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'

// A policy that is half written, and one that grants more than its tests state, are never in use.

t.setTimeout(600_000)

const shipped = (name: string): string => readFileSync(new URL(`../../../policies/${name}`, import.meta.url), 'utf8')
const POLICY = shipped('rbac_policies.yaml')
const TESTS = shipped('rbac_policies.test.yaml')
const GUARDED: Partial<RbacOptions> = { reload: { pollMs: 60_000, refuseGain: ['prod'] } }

interface Scene {
  readonly app: FastifyInstance
  readonly file: string
  readonly testsFile: string
  /** Writes, and looks. */
  put(text: string | Buffer, tests?: string): Promise<readonly string[]>
}

async function scene (t: Test, options: Partial<RbacOptions> = GUARDED, text = POLICY, tests = TESTS): Promise<Scene> {
  const folder = mkdtempSync(join(tmpdir(), 'marty-gain-'))
  const [file, testsFile] = [join(folder, 'rbac.yaml'), join(folder, 'rbac.test.yaml')]
  writeFileSync(file, text)
  writeFileSync(testsFile, tests)
  const app = Fastify()
  t.teardown(async () => {
    await app.close()
    rmSync(folder, { recursive: true, force: true })
  })
  await app.register(rbac, { policyFile: file, policyTests: testsFile, environment: 'production', ...options })
  await app.ready()
  return {
    app,
    file,
    testsFile,
    async put (text, tests) {
      if (tests !== undefined) writeFileSync(testsFile, tests)
      writeFileSync(file, text)
      return (await app.rbac.reload()).problems.map(({ message }) => message)
    }
  }
}

/** What anybody gains in production. */
function gains (before: Policy, after: Policy): number {
  return diffPolicies(before, after).changes.filter(
    ({ kind, environments }) => kind !== 'loss' && environments.includes('production')
  ).length
}

t.test('a policy cut off anywhere is no policy, or one that grants no more than its tests state', async t => {
  const whole = await loadPolicy(POLICY, 'p')
  const { app, put } = await scene(t)
  const bytes = Buffer.from(POLICY)
  let [refused, sound, wider] = [0, 0, 0]
  for (let length = 0; length < bytes.length; length++) {
    const cut = bytes.subarray(0, length)
    const text = cut.toString()
    const { problems } = checkPolicy(text, 'p')
    if (text.trim() !== '' && bytes[length - 1] !== 10) {
      if (problems.length !== 1 || !/ends without a line break/.test(problems[0]!.message)) {
        t.fail(`cut after ${length} bytes: ${JSON.stringify(problems)}`)
      }
      refused++
      continue
    }
    if (problems.length > 0) continue
    // Cut between two lines: to tell it from a whole one takes the tests.
    sound++
    const isWider = gains(whole, await loadPolicy(text, 'p')) > 0
    if (isWider) wider++
    const told = await put(cut)
    if (isWider && (told.length === 0 || gains(whole, app.rbac.policy) > 0)) {
      t.fail(`cut after ${length} bytes, it grants more and is in use`)
    }
  }
  t.ok(refused > 9_000, `${refused} within a line`)
  t.ok(wider > 0 && sound > wider, `${sound} between lines are sound, ${wider} of them wider`)
  t.equal(gains(whole, app.rbac.policy), 0)
  t.same(await put(POLICY), [], 'the whole one is taken again')
})

t.test('the same cuts grant more without tests and with refuseGain: none is taken', async t => {
  const { app, put } = await scene(t, {
    reload: { pollMs: 60_000, refuseGain: ['production'] },
    policyTests: undefined as never
  })
  const { sha256 } = app.rbac.policy
  const whole = app.rbac.policy
  for (let end = POLICY.indexOf('\nenvironments:') + 1; end < POLICY.length; end = POLICY.indexOf('\n', end) + 1) {
    const text = POLICY.slice(0, end)
    if (checkPolicy(text, 'p').problems.length > 0 || gains(whole, await loadPolicy(text, 'p')) === 0) continue
    const told = await put(text)
    t.match(told, [/grants more in production than the policy tests state \(there are none\): \S.* gains \S+/])
    t.equal(app.rbac.policy.sha256, sha256)
  }
})

t.test(
  'a text without a line break at its end is refused at the start, in the file, in its tests and in Redis',
  async t => {
    const cut = POLICY.trimEnd()
    const message =
      /^the text ends without a line break, as if it was cut off while it was written; write it whole, with a line break at its end$/
    t.match(checkPolicy(cut, 'p').problems, [
      { line: cut.split('\n').length, column: cut.length - cut.lastIndexOf('\n'), message }
    ])
    await t.rejects(loadPolicy(cut, 'p'), { code: 'MARTY_RBAC_POLICY_INVALID' })
    const app = Fastify()
    t.teardown(async () => {
      await app.close()
    })
    await t.rejects(
      async () => {
        await app.register(rbac, { policy: cut, environment: 'prod' })
      },
      { code: 'MARTY_RBAC_POLICY_INVALID' }
    )
    t.match(testPolicy(await loadPolicy(POLICY, 'p'), TESTS.trimEnd(), 't').problems, [{ source: 't', message }])
    const { put } = await scene(t)
    t.match(await put(cut), [message])
    t.match(await put(POLICY.replace('description: Deployable', 'description: All'), TESTS.trimEnd()), [message])
    t.same(await put(`${POLICY.replaceAll('\n', '\r\n')}`, TESTS), [], 'whatever a line break is')

    const server = await startRedis(await freePort())
    const redis = openRedis({ url: `redis://127.0.0.1:${server.port}` })
    t.teardown(async () => {
      await redis.close()
      await server.stop()
    })
    await redis.ready(10_000)
    await t.rejects(publishPolicy({ client: redis.client, text: cut, file: 'p.yaml' }), {
      code: 'MARTY_RBAC_POLICY_INVALID'
    })
    const following = Fastify()
    t.teardown(async () => {
      await following.close()
    })
    await following.register(rbac, {
      policy: POLICY,
      environment: 'prod',
      reload: { redis: { client: redis.client, prefix: 'cut' }, pollMs: 60_000, refuseGain: ['prod'] }
    })
    await publishPolicy({ client: redis.client, text: POLICY, file: 'p.yaml', prefix: 'cut' })
    t.match(await following.rbac.reload(), { stale: false })
    // Somebody who writes there by hand, and badly.
    const { createHash } = await import('node:crypto')
    const write = async (text: string): Promise<readonly string[]> => {
      await redis.client.hset('cut:policy', {
        text,
        sha256: createHash('sha256').update(text).digest('hex'),
        generation: String(Date.now() + 60_000)
      })
      return (await following.rbac.reload()).problems.map(({ message }) => message)
    }
    t.match(await write(cut), [message])
    t.match(
      await write(POLICY.slice(0, POLICY.indexOf('    deny:\n      - roles: [developer]\n        permissions:\n'))),
      [/grants more in prod than/]
    )
    t.match(following.rbac.status, { stale: true })
  }
)

t.test('JSON needs no line break: it is nothing before its last brace', async t => {
  const json = JSON.stringify({
    version: 1,
    resources: { a: { actions: ['b'] } },
    roles: { r: { allow: ['a:b'] } },
    environments: { prod: {} }
  })
  t.same(checkPolicy(json, 'p').problems, [])
  for (let length = 1; length < json.length; length++) {
    t.ok(checkPolicy(json.slice(0, length), 'p').problems.length > 0, `cut after ${length}`)
  }
})

// Gains, and the tests that state them.

const SMALL = `version: 1
resources:
  doc: { actions: [read, write, print], attributes: { owner: text, class: text } }
roles:
  reader: { allow: ['doc:read'] }
  writer: { inherits: [reader], allow: [{ permission: 'doc:write', when: resource.owner == principal.id }] }
  guest: {}
environments:
  development: {}
  production: { aliases: [prod] }
services:
  web: { may: [{ call: store, permissions: ['doc:read'] }] }
  store: {}
`
const SMALL_TESTS = `version: 1
principals:
  reader: { roles: [reader] }
  guest: { roles: [guest] }
  writer: { roles: [writer] }
  ada: { roles: [writer], id: ada, kind: user }
  web: { roles: [], kind: service, id: web }
tests:
  - { name: readers read, principals: [reader, writer], allow: ['doc:read'] }
  - { name: writers write their own, principals: [ada], resource: { owner: ada }, allow: ['doc:write'] }
`
const state = (test: string): string => `${SMALL_TESTS}  - { name: stated, ${test} }\n`

t.test('a gain is accepted when a test states it, and otherwise the last good policy stays', async t => {
  const cases: ReadonlyArray<readonly [string, string, string, string | null, RegExp | null]> = [
    [
      'nothing is stated',
      'guest: {}',
      "guest: { allow: ['doc:read'] }",
      null,
      /: guest gains doc:read; add tests that expect it of exactly this caller, or take it back$/
    ],
    ['it is stated', 'guest: {}', "guest: { allow: ['doc:read'] }", "principals: [guest], allow: ['doc:read']", null],
    [
      'it is stated by a pattern',
      'guest: {}',
      "guest: { allow: ['doc:read'] }",
      "principals: [guest], environments: [prod], only: ['*:read']",
      null
    ],
    [
      'it is stated of development',
      'guest: {}',
      "guest: { allow: ['doc:read'] }",
      "principals: [guest], environments: [development], allow: ['doc:read']",
      /guest gains doc:read/
    ],
    [
      'another permission is stated',
      'guest: {}',
      "guest: { allow: ['doc:read', 'doc:print'] }",
      "principals: [guest], allow: ['doc:read']",
      /guest gains doc:print;/
    ],
    [
      'whoever inherits gains too',
      "reader: { allow: ['doc:read'] }",
      "reader: { allow: ['doc:read', 'doc:print'] }",
      "principals: [reader], allow: ['doc:print']",
      /: writer gains doc:print/
    ],
    [
      'and it is stated of both',
      "reader: { allow: ['doc:read'] }",
      "reader: { allow: ['doc:read', 'doc:print'] }",
      "principals: [reader, writer], allow: ['doc:print']",
      null
    ],
    [
      'a condition is lost, and tests hold all the same',
      "{ permission: 'doc:write', when: resource.owner == principal.id }",
      "'doc:write'",
      null,
      /writer gains doc:write/
    ],
    [
      'a condition is lost, and a test states one case of it',
      "{ permission: 'doc:write', when: resource.owner == principal.id }",
      "'doc:write'",
      "principals: [writer], resource: { owner: bob }, allow: ['doc:write']",
      /writer gains doc:write/
    ],
    [
      'a condition is lost, and stated so',
      "{ permission: 'doc:write', when: resource.owner == principal.id }",
      "'doc:write'",
      "principals: [writer], allow: ['doc:write']",
      null
    ],
    [
      'a condition is wider',
      'resource.owner == principal.id',
      'resource.owner == principal.id or resource.class == "open"',
      null,
      /writer gains doc:write/
    ],
    [
      'a condition is wider, and the new case is stated',
      'resource.owner == principal.id',
      'resource.owner == principal.id or resource.class == "open"',
      "principals: [writer], resource: { class: open }, allow: ['doc:write']",
      null
    ],
    [
      'a condition is another one: somebody may gain',
      'resource.owner == principal.id',
      'resource.class in principal.claims.classes or principal.id == "ada"',
      null,
      /writer may gain doc:write/
    ],
    [
      'a service calls for more',
      "permissions: ['doc:read']",
      "permissions: ['doc:read', 'doc:print']",
      null,
      /web calls store gains doc:print/
    ],
    [
      'a service calls for more, as stated',
      "permissions: ['doc:read']",
      "permissions: ['doc:read', 'doc:print']",
      "principals: [web], service: store, allow: ['doc:print']",
      null
    ],
    ['a new permission, which no role is granted', '[read, write, print]', '[read, write, print, shred]', null, null],
    ['another alias', 'production: { aliases: [prod] }', 'production: { aliases: [live, prod] }', null, null],
    [
      'somebody loses',
      "reader: { allow: ['doc:read'] }",
      "reader: { allow: ['doc:print'] }",
      null,
      /is not allowed|must be allowed/
    ]
  ]
  for (const [name, piece, replacement, stated, told] of cases) {
    await t.test(name, async t => {
      const { app, put } = await scene(t, { reload: { pollMs: 60_000, refuseGain: ['prod'] } }, SMALL, SMALL_TESTS)
      const { sha256 } = app.rbac.policy
      t.ok(SMALL.includes(piece))
      const problems = await put(SMALL.replace(piece, replacement), stated === null ? undefined : state(stated))
      if (told === null) {
        t.same(problems, [])
        t.not(app.rbac.policy.sha256, sha256)
        return
      }
      t.match(problems.join('\n'), told)
      t.match(app.rbac.status, { generation: 1, sha256, stale: true })
      t.same(await put(SMALL), [], 'taken back, nothing is wrong any more')
      t.match(app.rbac.status, { generation: 1, stale: false })
    })
  }
})

t.test('what only two roles gain together is stated of who holds both', async t => {
  const text = SMALL.replace(
    'production: { aliases: [prod] }',
    "production: { aliases: [prod], require: [{ permissions: ['doc:read'], roles: [guest] }] }"
  )
  const tests = SMALL_TESTS.replace('name: readers read,', 'name: readers read, environments: [development],').replace(
    'name: writers write their own,',
    'name: writers write their own, environments: [development],'
  )
  const { put } = await scene(t, GUARDED, text, tests)
  const stated = `${tests}  - { name: stated, principals: [both], environments: [prod], allow: ['doc:read'] }\n`
  const wider = text.replace('guest: {}', "guest: {}\n  other: { allow: ['doc:read'] }")
  const both = (roles: string): string =>
    stated.replace('guest: { roles: [guest] }', `guest: { roles: [guest] }\n  both: { roles: ${roles} }`)
  t.match(await put(wider, tests), [/other \+ guest gains doc:read|guest \+ other gains doc:read/])
  t.match(await put(wider, both('[other]')), [/must be allowed/])
  t.same(await put(wider, both('[guest, other]')), [])
})

t.test('the first policy is compared with none: a restart takes what is there', async t => {
  const { file, testsFile, put } = await scene(t, GUARDED, SMALL, SMALL_TESTS)
  t.match(await put(SMALL.replace('guest: {}', "guest: { allow: ['doc:read'] }")), [/guest gains/])
  const again = Fastify()
  t.teardown(async () => {
    await again.close()
  })
  await again.register(rbac, { policyFile: file, policyTests: testsFile, environment: 'prod', ...GUARDED })
  t.ok(again.can({ roles: ['guest'] }, 'doc:read'))
})

t.test('options are checked', async t => {
  const refused = async (refuseGain: unknown, message: RegExp): Promise<void> => {
    const app = Fastify()
    t.teardown(async () => {
      await app.close()
    })
    await t.rejects(
      async () => {
        await app.register(rbac, {
          policy: SMALL,
          environment: 'prod',
          reload: { refuseGain: refuseGain as string[], redis: { client: { evalsha () {} } as never } }
        })
      },
      { code: 'MARTY_RBAC_OPT_INVALID', message }
    )
  }
  await refused('production', /option "reload\.refuseGain" must be a list/)
  await refused([''], /option "reload\.refuseGain\[0\]" must be a non-empty string/)
  await refused(
    ['producton'],
    /names the environment "producton", which policy does not define; did you mean "production"/
  )
})

t.test('a writer that truncates, waits and writes, again and again, never opens anything', async t => {
  const { app, file } = await scene(t, { reload: { pollMs: 50, refuseGain: ['production'] } })
  const whole = app.rbac.policy
  let [seen, known] = [0, whole]
  const watching = setInterval(() => {
    if (app.rbac.policy === known) return
    known = app.rbac.policy
    seen += gains(whole, known)
  }, 1)
  t.teardown(() => {
    clearInterval(watching)
  })
  const halves = [...POLICY.matchAll(/\n/g)]
    .map(({ index }) => POLICY.slice(0, index + 1))
    .filter(text => checkPolicy(text, 'p').problems.length === 0)
  const wider: string[] = []
  for (const half of halves) if (gains(whole, await loadPolicy(half, 'p')) > 0) wider.push(half)
  t.ok(wider.length > 10)
  for (const [round, half] of wider.entries()) {
    truncateSync(file)
    writeFileSync(file, half)
    // Longer than a file must hold still, now and then.
    if (round % 8 === 0) await until(() => app.rbac.status.stale, 'the half to be looked at')
    writeFileSync(file, `${POLICY}# ${round}\n`)
    if (round % 8 === 0) await until(() => !app.rbac.status.stale, 'the whole to be in use')
  }
  for (let write = 0; write < 1_000; write++) {
    writeFileSync(file, write % 2 === 0 ? POLICY.slice(0, -write) : `${POLICY}# ${write}\n`)
  }
  writeFileSync(file, `${POLICY}# the last\n`)
  const last = await loadPolicy(`${POLICY}# the last\n`, 'p')
  await until(() => app.rbac.policy.sha256 === last.sha256, 'the last one to be in use', 60_000)
  t.equal(seen, 0)
  t.notOk(app.rbac.status.stale)
})
