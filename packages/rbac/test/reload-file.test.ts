import { spawn } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { problemErrorHandler, useGuard } from '@marty/core'
import { formatProblem } from '@marty/config'
import { rbac, type RbacOptions } from '@marty/rbac'
import { until } from '@marty/testing'
import { byRoles } from './following.js'
import { POLICY, policyWith } from './policy-text.js'

// A policy that is changed in its file. Where a test waits for events alone, polling is too rare to help; where it
// waits for polling alone, the events are lost.

t.setTimeout(120_000)

const RARELY = { pollMs: 60_000 }
const OFTEN = { pollMs: 50 }
/** The viewer may configure cameras, or may not. */
const WIDER = policyWith("allow: ['camera:view',", "allow: ['camera:configure', 'camera:view',")
const TESTS = `version: 1
principals: { viewer: { roles: [viewer] } }
tests:
  - { name: viewers only look, principals: [viewer], deny: ['camera:configure'] }
`

interface Scene {
  readonly app: FastifyInstance
  readonly file: string
  readonly folder: string
  readonly logs: Array<Readonly<Record<string, unknown>>>
  configures(): boolean
}

async function scene (
  t: Test,
  options: Partial<RbacOptions> = {},
  prepare: (folder: string) => string = folder => {
    writeFileSync(join(folder, 'rbac.yaml'), POLICY)
    return join(folder, 'rbac.yaml')
  }
): Promise<Scene> {
  const folder = mkdtempSync(join(tmpdir(), 'marty-reload-'))
  const file = prepare(folder)
  const logs: Scene['logs'] = []
  const app = Fastify({
    logger: {
      stream: {
        write: (line: string) => {
          logs.push(JSON.parse(line))
        }
      }
    }
  })
  t.teardown(async () => {
    await app.close()
    rmSync(folder, { recursive: true, force: true })
  })
  useGuard(app, { strict: true }).addAuthenticator(byRoles)
  app.setErrorHandler(problemErrorHandler)
  await app.register(rbac, { policyFile: file, environment: 'prod', reload: RARELY, ...options })
  app.get('/configure', { config: { security: { permission: 'camera:configure' } } }, async () => 'done')
  app.get('/operators', { config: { security: { roles: ['operator'] } } }, async () => 'done')
  await app.ready()
  return { app, file, folder, logs, configures: () => app.can({ roles: ['viewer'] }, 'camera:configure') }
}

/** As careful writers do: another file, put in the place of the first. */
function replace (file: string, text: string): void {
  writeFileSync(`${file}.new`, text)
  renameSync(`${file}.new`, file)
}

t.test('what cannot be used keeps the last good policy, and is told with its place', async t => {
  const { app, file, logs, configures } = await scene(t, { reload: false })
  const { sha256 } = app.rbac.policy
  t.match(app.rbac.status, { generation: 1, sha256, stale: false, problems: [], loadedAt: /^\d{4}-.*Z$/ })
  const keeps = async (text: string | Buffer | null, told: RegExp): Promise<void> => {
    if (text === null) rmSync(file)
    else writeFileSync(file, text)
    const status = await app.rbac.reload()
    t.match(status, { generation: 1, sha256, stale: true })
    t.match(status.problems.map(formatProblem).join('\n'), told, String(told))
    t.equal(app.rbac.policy.sha256, sha256)
    t.notOk(configures())
    t.match(logs.at(-1), {
      level: 50,
      msg: 'policy not reloaded: the last good one stays in use',
      problems: status.problems.map(formatProblem)
    })
  }
  await keeps(
    WIDER.replace('camera:view', 'camera:vew'),
    /rbac\.yaml:8:\d+: "camera" does not have the action "vew"; did you mean "view"/
  )
  await keeps('', /rbac\.yaml:1:1: /)
  await keeps('# nothing\n', /rbac\.yaml:1:1: /)
  await keeps('\u0000\uFFFF\n', /rbac\.yaml:1:1: /)
  await keeps(
    Buffer.from(WIDER.replace('viewer', 'vi\u00E9wer'), 'latin1'),
    /rbac\.yaml: is not UTF-8; save it in that encoding/
  )
  await keeps(WIDER.slice(0, 400), /rbac\.yaml:\d+/)
  await keeps(`${WIDER}---\n${WIDER}`, /rbac\.yaml:\d+:1: a second document begins here/)
  await keeps('{'.repeat(100_000), /rbac\.yaml:1:\d+: /)
  await keeps(null, /rbac\.yaml: cannot be read: there is no such file/)
  await keeps('x'.repeat(5_000_001), /rbac\.yaml: is 5000001 bytes long; a policy has at most 5000000/)
  await keeps(
    POLICY + Array.from({ length: 500 }, (_, index) => `unknown${index}: 1\n`).join(''),
    /rbac\.yaml:\d+:1: unknown key "unknown0"[^]*has 400 more problems$/
  )
  t.equal(app.rbac.status.problems.length, 101)
  const told = logs.length
  await app.rbac.reload()
  t.equal(logs.length, told, 'the same mistakes are told once')
  rmSync(file)
  mkdirSync(file)
  await app.rbac.reload()
  t.match(app.rbac.status.problems, [{ message: 'cannot be read: it is a folder' }])
  rmSync(file, { recursive: true })

  writeFileSync(file, POLICY)
  t.match(await app.rbac.reload(), { generation: 1, stale: false, problems: [] }, 'what is there is what is in use')
  t.match(logs.at(-1), { level: 30, msg: 'the policy in use is the newest one again' })
  writeFileSync(file, WIDER)
  t.match(await app.rbac.reload(), { generation: 2, stale: false, problems: [] })
  t.match(logs.at(-1), { level: 30, msg: 'policy reloaded', generation: 2, rules: app.rbac.policy.rules })
  t.ok(configures())
})

t.test('what is probably not meant is told of the policy in use, and keeps none from being used', async t => {
  const { app, file, logs } = await scene(t, { reload: false })
  const warned = (): typeof logs => logs.filter(({ level }) => level === 40)
  const taken: string[] = []
  for (const action of ['zoom', 'tilt']) {
    writeFileSync(
      file,
      POLICY.replace("allow: ['*:*']", "allow: ['camera:view']").replace(
        '[view, control]',
        `[view, control, ${action}]`
      )
    )
    taken.push((await app.rbac.reload()).sha256)
  }
  t.equal(app.rbac.policy.generation, 3)
  await until(() => warned().length > 0, 'it to be told')
  t.match(warned(), [{ sha256: taken[1], policy: file, msg: 'the policy is valid, but probably contains mistakes' }])
  t.match((warned()[0]!['warnings'] as string[]).join('\n'), /rbac\.yaml:4:41: nobody is allowed recording:tilt/)
  t.equal(warned().length, 1, 'nothing of the one that was replaced at once')
})

t.test('a policy without what this process needs is not taken', async t => {
  const { app, file } = await scene(t, { reload: false, service: 'storage' }, folder => {
    writeFileSync(join(folder, 'rbac.yaml'), `${POLICY}services: { storage: {} }\n`)
    return join(folder, 'rbac.yaml')
  })
  const refused = async (text: string, ...told: RegExp[]): Promise<void> => {
    writeFileSync(file, text)
    t.match(
      (await app.rbac.reload()).problems.map(({ message }) => message),
      told
    )
    t.equal(app.rbac.policy.generation, 1)
  }
  const text = `${POLICY}services: { storage: {} }\n`
  await refused(POLICY, /defines no service "storage", which this one is/)
  await refused(
    text.replace('[view, configure]', '[view, configured]'),
    /defines no permission "camera:configure", which a rule of this service names; did you mean "camera:configured"/
  )
  await refused(
    text.replaceAll('operator', 'operators'),
    /defines no role "operator", which a rule of this service names; did you mean "operators"/
  )
  await refused(
    text.replace('aliases: [prod]', 'aliases: [live]'),
    /defines no environment "prod", in which this service runs as "production"/
  )
  await refused(
    text.replace('aliases: [prod]', 'aliases: [live]').replace('aliases: [dev]', 'aliases: [dev, prod]'),
    /defines as "development" the environment "prod", in which this service runs as "production"/
  )
  writeFileSync(file, text.replace('aliases: [prod]', 'aliases: [prod, live]'))
  t.match(await app.rbac.reload(), { generation: 2, stale: false })
})

t.test('policy tests decide, at the start and at every reload', async t => {
  const { app, file, folder, configures } = await scene(t, { reload: OFTEN })
  const tests = join(folder, 'rbac.test.yaml')
  writeFileSync(tests, TESTS)
  const start = async (policyFile: string): Promise<FastifyInstance> => {
    const other = Fastify()
    t.teardown(() => other.close())
    await other.register(rbac, { policyFile, environment: 'prod', policyTests: tests, reload: OFTEN })
    return other
  }
  const other = await start(file)
  const wider = join(folder, 'wider.yaml')
  writeFileSync(wider, WIDER)
  await t.rejects(start(wider), {
    code: 'MARTY_RBAC_POLICY_INVALID',
    message: /rbac\.test\.yaml:4:\d+: viewers only look: viewer must not be allowed camera:configure/
  })

  replace(file, WIDER)
  await until(() => configures() && other.rbac.status.stale, 'one to be taken and one to be refused')
  t.match(other.rbac.status, { generation: 1, problems: [{ source: tests, line: 4 }] })
  replace(tests, TESTS.replace('deny', 'allow'))
  await until(() => !other.rbac.status.stale, 'the changed tests to be seen')
  t.ok(other.can({ roles: ['viewer'] }, 'camera:configure'))
  rmSync(tests)
  replace(file, POLICY)
  await until(() => !configures() && other.rbac.status.stale, 'the tests to be missed')
  t.match(other.rbac.status, { generation: 2, problems: [{ source: tests, message: /there is no such file/ }] })
  writeFileSync(tests, 'version: 2\n')
  await until(() => other.rbac.status.problems.some(({ line }) => line === 1), 'the faulty tests to be told')
  writeFileSync(tests, TESTS)
  await until(() => other.rbac.policy.generation === 3, 'the policy to be tested')
  t.equal(app.rbac.policy.sha256, other.rbac.policy.sha256)
})

t.test('events: replaced, written in place, moved away, gone and back', async t => {
  const { app, file, folder, configures } = await scene(t)
  const follows = async (wider: boolean, what: string): Promise<void> => {
    await until(() => configures() === wider, what)
    t.notOk(app.rbac.status.stale, what)
  }
  replace(file, WIDER)
  await follows(true, 'an atomic replacement')
  writeFileSync(file, POLICY)
  await follows(false, 'writing in place')
  renameSync(file, `${file}~`)
  writeFileSync(file, WIDER)
  await follows(true, 'an editor that keeps the old file as a backup')
  rmSync(file)
  await until(() => app.rbac.status.stale, 'the file to be missed')
  t.ok(configures(), 'the last good one stays')
  writeFileSync(file, WIDER)
  await until(() => !app.rbac.status.stale, 'the file to be found again')
  rmSync(file)
  writeFileSync(join(folder, 'kept.yaml'), POLICY)
  symlinkSync(join(folder, 'kept.yaml'), file)
  await follows(false, 'a link in place of the file')
})

t.test('events: a Kubernetes ConfigMap turns its link', async t => {
  const version = (folder: string, name: string, text: string): void => {
    mkdirSync(join(folder, name))
    writeFileSync(join(folder, name, 'rbac.yaml'), text)
    symlinkSync(name, join(folder, '..data_tmp'))
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'))
  }
  const { app, folder, configures } = await scene(t, {}, folder => {
    version(folder, '..2025_01', POLICY)
    symlinkSync(join('..data', 'rbac.yaml'), join(folder, 'rbac.yaml'))
    return join(folder, 'rbac.yaml')
  })
  for (let round = 2; round < 8; round++) {
    version(folder, `..2025_0${round}`, round % 2 === 0 ? WIDER : POLICY)
    await until(() => configures() === (round % 2 === 0), `version ${round}`)
    rmSync(join(folder, `..2025_0${round - 1}`), { recursive: true })
  }
  t.notOk(app.rbac.status.stale)
  t.equal(app.rbac.policy.generation, 7)
})

t.test('polling: what no event tells is found', async t => {
  const { app, file, folder, configures } = await scene(t, { reload: OFTEN }, folder => {
    // Nothing happens in the folder that is watched.
    mkdirSync(join(folder, 'far'))
    mkdirSync(join(folder, 'near'))
    writeFileSync(join(folder, 'far', 'rbac.yaml'), POLICY)
    symlinkSync(join(folder, 'far', 'rbac.yaml'), join(folder, 'near', 'rbac.yaml'))
    return join(folder, 'near', 'rbac.yaml')
  })
  replace(join(folder, 'far', 'rbac.yaml'), WIDER)
  await until(configures, 'a change elsewhere')
  rmSync(join(folder, 'near'), { recursive: true })
  await until(() => app.rbac.status.stale, 'the folder to be missed')
  mkdirSync(join(folder, 'near'))
  writeFileSync(file, POLICY)
  await until(() => !configures(), 'the folder to be found again')
  t.notOk(app.rbac.status.stale)
})

t.test('what is written while it is read is not taken', async t => {
  const { app, file } = await scene(t, { reload: false })
  const writer = spawn(process.execPath, [
    '-e',
    `
    const { writeFileSync } = require('node:fs')
    for (let round = 0; ; round++) writeFileSync(process.argv[1], String(round % 2).repeat(2e6))
  `,
    file
  ])
  t.teardown(() => {
    writer.kill('SIGKILL')
  })
  await until(
    async () => (await app.rbac.reload()).problems[0]?.message === 'cannot be read: it was changed meanwhile',
    'a change to be noticed'
  )
  t.equal(app.rbac.policy.generation, 1)
})

t.test('who reloads at the same time shares what is newest', async t => {
  const { app, file } = await scene(t, { reload: false })
  writeFileSync(file, WIDER)
  const first = app.rbac.reload()
  writeFileSync(file, `${WIDER}# newer\n`)
  const others = Array.from({ length: 50 }, async () => await app.rbac.reload())
  await first
  const { sha256 } = app.rbac.policy
  for (const status of await Promise.all(others)) t.ok(status.generation >= 2)
  writeFileSync(file, `${WIDER}# newest\n`)
  await Promise.all([app.rbac.reload(), app.rbac.reload()])
  t.not(app.rbac.policy.sha256, sha256)
  t.ok(app.rbac.policy.generation <= 4)
})

t.test('a policy that is given as a text stays', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(rbac, { policy: POLICY, environment: 'prod' })
  t.match(await app.rbac.reload(), { generation: 1, stale: false, problems: [] })
})

t.test('options of reloading that are wrong stop the start', async t => {
  const refused = async (
    reload: unknown,
    message: RegExp,
    rest: Partial<RbacOptions> = { policyFile: 'x' }
  ): Promise<void> => {
    await t.rejects(
      async () => await Fastify().register(rbac, { environment: 'dev', ...rest, reload } as RbacOptions),
      { code: 'MARTY_RBAC_OPT_INVALID', message },
      String(message)
    )
  }
  await refused(5, /option "reload" must be true, false or an object/)
  await refused(null, /option "reload" must be true, false or an object/)
  await refused({ poll: 5 }, /option "reload\.poll" is not known; known are redis, pollMs, timeoutSeconds/)
  for (const pollMs of [19, 60_001, NaN, '50']) {
    await refused({ pollMs }, /option "reload\.pollMs" must be a number from 20 to 60000/)
  }
  for (const timeoutSeconds of [0.09, 601, Infinity]) {
    await refused({ timeoutSeconds }, /option "reload\.timeoutSeconds" must be a number from 0\.1 to 600/)
  }
  await refused({ redis: null }, /option "reload\.redis" must be an object/)
  for (const redis of [{}, { client: 'redis://' }, { client: null }]) {
    await refused({ redis }, /option "reload\.redis\.client" .*must be a Redis client/)
  }
  const client = { evalsha () {} }
  await refused({ redis: { client, subscriber: {} } }, /option "reload\.redis\.subscriber" must be a Redis client/)
  for (const prefix of ['', 'a b', 'x'.repeat(65)]) {
    await refused({ redis: { client, prefix } }, /option "reload\.redis\.prefix" must be 1 to 64 letters/)
  }
  await refused(true, /option "reload" needs the option "policyFile" or "reload\.redis"/, { policy: POLICY })
  await refused(false, /option "policyTests" must be a non-empty string/, { policy: POLICY, policyTests: '' })
})

t.test('the thread is there before the first change', async t => {
  const threads: unknown[] = []
  const count = (message: unknown): void => {
    threads.push(message)
  }
  subscribe('worker_threads', count)
  t.teardown(() => {
    unsubscribe('worker_threads', count)
  })
  const folder = mkdtempSync(join(tmpdir(), 'marty-reload-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const file = join(folder, 'rbac.yaml')
  writeFileSync(file, POLICY)
  const [app, brief] = [Fastify(), Fastify()]
  t.teardown(() => app.close())
  for (const one of [app, brief]) await one.register(rbac, { policyFile: file, environment: 'prod', reload: RARELY })
  await Promise.all([app.ready(), brief.ready()])
  await brief.close()
  await until(() => threads.length > 0, 'the thread')
  writeFileSync(file, WIDER)
  t.match(await app.rbac.reload(), { generation: 2, stale: false })
  t.equal(threads.length, 1, 'one, and none of who was closed')
})

t.test('who follows a policy keeps no process from ending', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'marty-reload-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const file = join(folder, 'rbac.yaml')
  writeFileSync(file, POLICY)
  const child = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `
    import { writeFileSync } from 'node:fs'
    import Fastify from 'fastify'
    import { rbac } from '@marty/rbac'
    const app = Fastify()
    await app.register(rbac, { policyFile: process.argv[1], environment: 'prod' })
    writeFileSync(process.argv[1], process.argv[2])
    const { generation, stale } = await app.rbac.reload()
    console.log(generation, stale)
  `,
      file,
      WIDER
    ],
    { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'inherit'] }
  )
  t.teardown(() => {
    child.kill('SIGKILL')
  })
  let output = ''
  child.stdout.on('data', chunk => {
    output += String(chunk)
  })
  const [code] = await once(child, 'close')
  t.equal(code, 0)
  t.equal(output, '2 false\n')
})
