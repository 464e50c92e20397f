import { spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { formatProblem } from '@marty/config'
import { publishPolicy, rbac, type ReloadOptions } from '@marty/rbac'
import { openRedis, type RedisConnection } from '@marty/redis'
import { freePort, type RedisServer, startRedis, until } from '@marty/testing'
import { POLICY, policyWith } from './policy-text.js'

// Policies that are published in a real Redis, and followed by this process and by others.

t.setTimeout(120_000)

const KEY = 'marty:rbac:policy'
const WIDER = policyWith("allow: ['camera:view',", "allow: ['camera:configure', 'camera:view',")
const version = (number: number): string => `${number % 2 === 0 ? POLICY : WIDER}# version ${number}\n`
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

async function redisServer (t: Test): Promise<{ server: RedisServer; open(): Promise<RedisConnection> }> {
  const server = await startRedis(await freePort())
  const opened: RedisConnection[] = []
  t.teardown(async () => {
    await Promise.all(
      opened.map(async connection => {
        await connection.close()
      })
    )
    await server.stop()
  })
  return {
    server,
    async open () {
      const connection = openRedis({ url: `redis://127.0.0.1:${server.port}`, commandTimeoutMs: 10_000 })
      opened.push(connection)
      await connection.ready(10_000)
      return connection
    }
  }
}

interface Follower {
  readonly app: FastifyInstance
  readonly logs: Array<Readonly<Record<string, unknown>>>
  problems(): string
}

async function follow (
  t: Test,
  { client }: Pick<RedisConnection, 'client'>,
  reload: Partial<ReloadOptions['redis']> & Pick<ReloadOptions, 'pollMs'> = {}
): Promise<Follower> {
  const { pollMs = 50, ...redis } = reload
  const logs: Follower['logs'] = []
  const app = Fastify({
    logger: {
      stream: {
        write: (line: string) => {
          logs.push(JSON.parse(line))
        }
      }
    }
  })
  t.teardown(() => app.close())
  await app.register(rbac, { policy: POLICY, environment: 'prod', reload: { pollMs, redis: { client, ...redis } } })
  return { app, logs, problems: () => app.rbac.status.problems.map(formatProblem).join('\n') }
}

t.test('what cannot be used is not published', async t => {
  const { open } = await redisServer(t)
  const { client } = await open()
  await t.rejects(
    publishPolicy({ client, text: WIDER.replace('camera:view', 'camera:vew'), file: '/somewhere/rbac.yaml' }),
    { code: 'MARTY_RBAC_POLICY_INVALID', message: /rbac\.yaml:8:\d+: "camera" does not have the action "vew"/ }
  )
  await t.rejects(publishPolicy({ client, text: '', file: 'rbac.yaml' }), { code: 'MARTY_RBAC_POLICY_INVALID' })
  t.equal(await client.exists(KEY), 0)
  const published = await publishPolicy({ client, text: WIDER, file: '/somewhere/rbac.yaml' })
  t.match(published, { sha256: sha256(WIDER), generation: Number })
  t.match(await client.hgetall(KEY), {
    generation: String(published.generation),
    sha256: published.sha256,
    file: 'rbac.yaml',
    text: WIDER
  })
  t.ok((await client.ttl(KEY)) > 86_400)
  const again = await publishPolicy({ client, text: WIDER, file: 'rbac.yaml' })
  t.ok(again.generation > published.generation)
  const many = await Promise.all(
    Array.from({ length: 20 }, async () => await publishPolicy({ client, text: WIDER, file: 'rbac.yaml' }))
  )
  t.equal(new Set(many.map(({ generation }) => generation)).size, 20)
  for (const damaged of ['nan', 'inf', 'x', '1e300', String(2 ** 60)]) {
    await client.hset(KEY, 'generation', damaged)
    const { generation } = await publishPolicy({ client, text: WIDER, file: 'rbac.yaml' })
    t.ok(Number.isSafeInteger(generation) && generation > 0, damaged)
  }
  await client.set('other:policy', 'a text')
  const error: unknown = await publishPolicy({ client, prefix: 'other', text: WIDER, file: 'rbac.yaml' }).catch(
    (error: unknown) => error
  )
  t.match(error, { code: 'MARTY_RBAC_STORE_UNAVAILABLE', statusCode: 503, cause: /WRONGTYPE/ })
})

t.test('what was published is in use when the service starts', async t => {
  const { open } = await redisServer(t)
  const { client } = await open()
  const before = await follow(t, { client }, { prefix: 'app' })
  t.match(before.app.rbac.status, { generation: 1, stale: false }, 'nothing is published yet')
  await publishPolicy({ client, prefix: 'app', text: WIDER, file: 'rbac.yaml' })
  const { app, logs } = await follow(t, { client }, { prefix: 'app' })
  t.match(app.rbac.status, { generation: 2, sha256: sha256(WIDER), stale: false })
  t.equal(app.rbac.policy.file, 'rbac.yaml')
  t.ok(app.can({ roles: ['viewer'] }, 'camera:configure'))
  t.match(
    logs.map(({ msg }) => msg),
    ['policy reloaded', 'policy loaded']
  )
  await until(() => before.app.rbac.status.sha256 === sha256(WIDER), 'the first to follow')
})

t.test('what is poisoned, older or gone keeps the last good policy', async t => {
  const { open } = await redisServer(t)
  const { client } = await open()
  const { app, problems } = await follow(t, { client })
  const { generation } = await publishPolicy({ client, text: version(1), file: 'rbac.yaml' })
  await until(() => app.rbac.status.sha256 === sha256(version(1)), 'the first')
  const keeps = async (change: Readonly<Record<string, string | number>> | null, told: RegExp): Promise<void> => {
    const good = await client.hgetall(KEY)
    await client.del(KEY)
    if (change !== null) {
      await client.hset(
        KEY,
        Object.fromEntries(Object.entries({ ...good, ...change }).filter(([, value]) => value !== ''))
      )
    }
    await until(() => told.test(problems()), String(told))
    t.match(app.rbac.status, { stale: true, sha256: sha256(version(1)) }, String(told))
    await client.hset(KEY, good)
    await until(() => !app.rbac.status.stale, 'the good one to be seen again')
  }
  const invalid = WIDER.replace('camera:view', 'camera:vew')
  await keeps(
    { generation: generation + 1, text: WIDER },
    /rbac\.yaml: is not the text that was published: its sha256 is not/
  )
  await keeps(
    { generation: generation + 1, text: invalid, sha256: sha256(invalid) },
    /rbac\.yaml:8:\d+: "camera" does not have the action "vew"/
  )
  await keeps(
    { generation: generation + 1, text: '', sha256: sha256('') },
    /redis key marty:rbac:policy: is damaged; publish the policy again/
  )
  await keeps(
    { generation: generation + 1, text: 'x'.repeat(5_000_001) },
    /redis key marty:rbac:policy: is 5000001 bytes long/
  )
  for (const damaged of ['', '0', '-5', '1.5', 'nan', 'newest', '1e400']) {
    await keeps({ generation: damaged, text: WIDER, sha256: sha256(WIDER) }, /is damaged/)
  }
  for (const damaged of ['', 'short', '../../etc', 'Z'.repeat(64)]) {
    await keeps({ generation: generation + 1, sha256: damaged }, /is damaged/)
  }
  await keeps({ generation: generation + 1, file: '' }, /is damaged/)
  await keeps(
    { generation: generation - 1, text: WIDER, sha256: sha256(WIDER) },
    new RegExp(`holds generation ${generation - 1}, older than ${generation}, which is in use`)
  )
  await keeps(null, /holds no policy any more/)

  await client.del(KEY)
  await client.set(KEY, 'a text')
  await until(
    () => /redis key marty:rbac:policy: cannot be read: .*WRONGTYPE/.test(problems()),
    'a key of another type'
  )
  await client.del(KEY)
  await publishPolicy({ client, text: version(2), file: 'rbac.yaml' })
  await until(
    () => app.rbac.status.sha256 === sha256(version(2)),
    'a policy that is published after everything was lost'
  )
  t.notOk(app.rbac.status.stale)
})

t.test('those who follow keep the key', async t => {
  const { open } = await redisServer(t)
  const { client } = await open()
  await publishPolicy({ client, text: WIDER, file: 'rbac.yaml' })
  await client.expire(KEY, 100)
  await follow(t, { client })
  await t.resolves(until(async () => (await client.ttl(KEY)) > 86_400, 'the time to be prolonged'))
})

t.test('a message brings a policy at once; one that is lost is made up for by polling', async t => {
  const { open } = await redisServer(t)
  const { client } = await open()
  const subscription = await open()
  const listening = await follow(t, { client }, { subscriber: subscription.client, pollMs: 60_000 })
  const polling = await follow(t, { client }, { pollMs: 50 })
  const deaf = await open()
  const missing = await follow(t, { client }, { subscriber: deaf.client, pollMs: 50 })
  for (let round = 1; round <= 10; round++) {
    await publishPolicy({ client, text: version(round), file: 'rbac.yaml' })
    if (round === 3) await deaf.client.unsubscribe()
    await until(
      () => [listening, polling, missing].every(({ app }) => app.rbac.status.sha256 === sha256(version(round))),
      `round ${round}`
    )
  }
  await client.publish(KEY, 'nonsense')
  await client.publish('elsewhere', 'nonsense')
  // The heartbeat of a subscribed connection is answered too.
  t.equal(subscription.health().details.reconnects, 0)

  await listening.app.close()
  t.equal(subscription.client.status, 'ready', 'what was given is not closed')
  t.equal(client.status, 'ready')
  await until(async () => (await client.pubsub('NUMSUB', KEY))[1] === 0, 'the subscription to be given up')
})

t.test('Redis lost, frozen and back', async t => {
  const port = await freePort()
  const first = await startRedis(port)
  let server = first
  t.teardown(async () => {
    await server.stop()
  })
  const connections = [
    openRedis({ url: `redis://127.0.0.1:${port}` }),
    openRedis({ url: `redis://127.0.0.1:${port}` })
  ] as const
  t.teardown(async () => {
    await Promise.all(
      connections.map(async connection => {
        await connection.close()
      })
    )
  })
  const [{ client }, { client: subscriber }] = connections
  await Promise.all(
    connections.map(async connection => {
      await connection.ready(10_000)
    })
  )
  await publishPolicy({ client, text: version(1), file: 'rbac.yaml' })
  const { app, problems, logs } = await follow(t, { client }, { subscriber })

  server.child.kill('SIGSTOP')
  await until(() => app.rbac.status.stale, 'the frozen Redis to be told')
  t.match(problems(), /redis key marty:rbac:policy: cannot be read: /)
  t.equal(app.rbac.policy.sha256, sha256(version(1)))
  t.ok(app.can({ roles: ['viewer'] }, 'camera:configure'))
  const error: unknown = await publishPolicy({ client, text: version(2), file: 'rbac.yaml' }).catch(
    (error: unknown) => error
  )
  t.match(error, { code: 'MARTY_RBAC_STORE_UNAVAILABLE' })
  server.child.kill('SIGCONT')
  await until(() => !app.rbac.status.stale, 'the thawed Redis')

  await server.stop()
  await until(() => app.rbac.status.stale, 'the lost Redis to be told')
  server = await startRedis(port)
  await until(() => problems().includes('holds no policy any more'), 'its loss of data to be told')
  await until(
    async () =>
      await publishPolicy({ client, text: version(3), file: 'rbac.yaml' }).then(
        () => true,
        () => false
      ),
    'publishing to work again'
  )
  await until(() => app.rbac.status.sha256 === sha256(version(3)), 'what is published then')
  t.notOk(app.rbac.status.stale)
  await until(async () => (await client.pubsub('NUMSUB', KEY))[1] === 1, 'the subscription to be made again')
  const failures = logs.filter(({ level }) => level === 50)
  t.ok(failures.length < 20, `${failures.length} lines tell of it`)
})

t.test('a service starts without Redis, with the policy it has, and says so', async t => {
  const port = await freePort()
  const connection = openRedis({ url: `redis://127.0.0.1:${port}` })
  t.teardown(async () => {
    await connection.close()
  })
  const { app, problems } = await follow(t, connection)
  t.match(app.rbac.status, { generation: 1, stale: true })
  t.match(problems(), /redis key marty:rbac:policy: cannot be read/)
  const server = await startRedis(port)
  t.teardown(async () => {
    await server.stop()
  })
  await until(() => !app.rbac.status.stale, 'Redis to be found')
  await connection.ready(10_000)
  await publishPolicy({ client: connection.client, text: version(1), file: 'rbac.yaml' })
  await until(() => app.rbac.status.sha256 === sha256(version(1)), 'its policy')
})

t.test('processes converge, through messages or without', async t => {
  const { server, open } = await redisServer(t)
  const { client } = await open()
  const started = (['listens', 'polls'] as const).map(how => {
    const seen: Array<{ readonly at: number; readonly sha256: string }> = []
    const child: ChildProcess = spawn(
      process.execPath,
      [fileURLToPath(new URL('./policy-follower.js', import.meta.url)), String(server.port), how],
      { stdio: ['ignore', 'pipe', 'inherit'] }
    )
    t.teardown(() => {
      child.kill('SIGKILL')
    })
    let rest = ''
    child.stdout!.on('data', chunk => {
      const lines = (rest + String(chunk)).split('\n')
      rest = lines.pop()!
      for (const line of lines) seen.push({ at: Number(line.split(' ')[0]), sha256: line.split(' ')[1]! })
    })
    return { how, seen, tookMs: [] as number[] }
  })
  await until(() => started.every(({ seen }) => seen.length > 0), 'both to start')
  for (let round = 1; round <= 12; round++) {
    const text = version(round)
    await publishPolicy({ client, text, file: 'rbac.yaml' })
    const at = Date.now()
    await until(() => started.every(({ seen }) => seen.at(-1)?.sha256 === sha256(text)), `round ${round}`)
    for (const { seen, tookMs } of started) tookMs.push(seen.at(-1)!.at - at)
  }
  for (const { how, seen, tookMs } of started) {
    t.comment(`${how}: ${tookMs.join(' ')} ms`)
    const order = seen.map(({ sha256 }) => sha256)
    t.strictSame(
      order,
      [sha256(POLICY), ...Array.from({ length: 12 }, (_, index) => sha256(version(index + 1)))],
      'every one, in order'
    )
  }
})
