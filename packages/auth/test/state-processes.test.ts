import t, { type Test } from 'tap'
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { createTokenVerifier } from '@marty/auth'
import { until } from '@marty/testing'
import { TOKENS } from '@marty/testing/tokens'
import { testRedis } from './state-store.js'
import type { Actions } from './state-worker.js'

const UNAVAILABLE = 'MARTY_AUTH_STORE_UNAVAILABLE'
const REFUSED = 'MARTY_CORE_CREDENTIAL_INVALID'
const redis = await testRedis(t)

interface Worker {
  readonly child: ChildProcess
  /** Rejects with an error whose `code` is the one of the worker's. */
  ask<Name extends keyof Actions>(
    action: Name,
    ...args: Parameters<Actions[Name]>
  ): Promise<Awaited<ReturnType<Actions[Name]>>>
}

async function startWorker (t: Test): Promise<Worker> {
  const child = fork(fileURLToPath(new URL('state-worker.js', import.meta.url)), [String(redis.port)])
  t.teardown(() => { child.kill('SIGKILL') })
  const waiting = new Map<number, { resolve: (value: never) => void, reject: (error: Error) => void }>()
  child.on('message', ({ id, value, code }: { id: number, value?: never, code?: string }) => {
    if (code === undefined) waiting.get(id)?.resolve(value as never)
    else waiting.get(id)?.reject(Object.assign(new Error(code), { code }))
  })
  await once(child, 'message')
  let last = 0
  return {
    child,
    ask: async (action, ...args) => await new Promise<never>((resolve, reject) => {
      const id = ++last
      waiting.set(id, { resolve, reject })
      child.send({ id, action, args })
    })
  }
}

const codeOf = async (answer: Promise<unknown>): Promise<string> =>
  await answer.then(
    () => 'ok',
    (error: { code: string }) => error.code
  )

/** Asks again while the store has no time, as a client would. */
async function persist<T> (ask: () => Promise<T>): Promise<T> {
  for (let left = 500; ; left--) {
    try {
      return await ask()
    } catch (error) {
      if ((error as { code: string }).code !== UNAVAILABLE || left === 0) throw error
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}

t.test('a token, a subject and a family revoked in one process are refused in the other, on its live connection too', async t => {
  const [one, two] = await Promise.all([startWorker(t), startWorker(t)])
  const claimsOf = createTokenVerifier(TOKENS)
  const ways: Array<(token: string) => Promise<void>> = [
    async token => {
      const { jti, exp } = claimsOf(token)
      await one.ask('revoke', jti, exp * 1000)
    },
    async () => { await one.ask('revokeFamily', 'family 1') },
    async () => { await one.ask('revokeSubject', 'alice') }
  ]
  const tokens = await Promise.all(
    [one, two, two].map(async (worker, i) => await worker.ask('sign', 'alice', `family ${i}`))
  )
  const bystander = await one.ask('sign', 'bob', 'family 9')
  for (const [i, revoke] of ways.entries()) {
    const token = tokens[i]!
    t.equal(await persist(async () => await two.ask('verify', token)), 'alice')
    await persist(async () => { await two.ask('connect', token) })
    t.equal(await persist(async () => await two.ask('alive')), true)
    await persist(async () => { await revoke(token) })
    t.equal(await codeOf(one.ask('verify', token)), REFUSED, 'here at once')
    await until(async () => !(await two.ask('alive')), 'the live connection to notice')
    t.equal(await codeOf(two.ask('verify', token)), REFUSED)
    t.equal(await two.ask('verify', bystander), 'bob')
  }
})

t.test('a hundred refreshes of one token over two processes make one lineage', async t => {
  const [one, two] = await Promise.all([startWorker(t), startWorker(t)])
  const { token } = await persist(async () => await one.ask('issue', 'carol'))
  const answers = (
    await Promise.all([one, two, one, two].map(async worker => await worker.ask('rotateMany', token, 25)))
  ).flat()
  const tokens = new Set(answers.filter(answer => answer !== UNAVAILABLE))
  t.equal(answers.length, 100)
  t.equal(tokens.size, 1)
  t.match([...tokens][0], /^ref_/)
  await persist(async () => await two.ask('rotate', [...tokens][0]!))
  t.equal(await codeOf(persist(async () => await one.ask('rotate', token))), REFUSED, 'the successor was used')
  t.equal((await Promise.all([one, two].map(async worker => await worker.ask('reuses')))).flat().length, 1)
})

t.test('Redis freezes in mid-flight: nothing hangs, no lineage is doubled or lost', async t => {
  const [one, two] = await Promise.all([startWorker(t), startWorker(t)])
  const families = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => await persist(async () => await one.ask('issue', `user ${i}`)))
  )
  const signed = await one.ask('sign', 'dave', 'family')
  const flying = families.flatMap(({ token }) =>
    [one, two].map(
      async worker =>
        await worker.ask('rotate', token).then(
          answer => answer.token,
          (error: { code: string }) => error.code
        )
    )
  )
  await Promise.race(flying)
  redis.server.child.kill('SIGSTOP')
  const first = await Promise.all(flying)
  t.equal(await codeOf(one.ask('rotate', families[0]!.token)), UNAVAILABLE)
  t.equal(await codeOf(two.ask('issue', 'erin')), UNAVAILABLE)
  t.equal(await codeOf(two.ask('revokeSubject', 'dave')), UNAVAILABLE)
  t.equal(await codeOf(two.ask('verify', signed)), REFUSED, 'in force where it was asked for')
  t.equal(await one.ask('verify', signed), 'dave')
  redis.server.child.kill('SIGCONT')
  for (const [i, { token }] of families.entries()) {
    const again = await Promise.all(
      [one, two].map(async worker => (await persist(async () => await worker.ask('rotate', token))).token)
    )
    const lineages = new Set([...again, ...first.slice(2 * i, 2 * i + 2).filter(answer => answer !== UNAVAILABLE)])
    t.equal(lineages.size, 1)
    t.ok(await persist(async () => await one.ask('rotate', again[0]!)))
  }
  await until(async () => await codeOf(one.ask('verify', signed)) === REFUSED, 'the other process to know')
})

t.test('two processes sign in one subject and Redis is killed: the limit holds, other subjects are served', async t => {
  const [one, two] = await Promise.all([startWorker(t), startWorker(t)])
  const folder = t.testdir()
  const durable = ['--dir', folder, '--appendonly', 'yes', '--appendfsync', 'always']
  await redis.restart(durable)
  const bystander = await persist(async () => await one.ask('issue', 'victor'))
  const flying = Promise.all([one, two].map(async worker => {
    const answers: string[] = []
    for (let i = 0; i < 20; i++) answers.push(...(await worker.ask('issueMany', 'walter', 25)))
    return answers
  }))
  const reader = await redis.connect({ commandTimeoutMs: 5_000 })
  await until(async () => (await reader.client.keys('{service}:refresh:*')).length > 20, 'some sign-ins')
  redis.server.child.kill('SIGKILL')
  await once(redis.server.child, 'exit')
  await redis.restart(durable)
  const tokens = (await flying).flat()
  t.equal(tokens.length, 1_000)
  t.ok(tokens.every(token => token === UNAVAILABLE || token.startsWith('ref_')))
  tokens.push(
    ...(await persist(async () => {
      const last = await two.ask('issueMany', 'walter', 60)
      if (last.includes(UNAVAILABLE)) throw Object.assign(new Error(UNAVAILABLE), { code: UNAVAILABLE })
      return last
    }))
  )

  let alive = 0
  for (const token of tokens.filter(token => token.startsWith('ref_'))) {
    if (await persist(async () => await one.ask('inspect', token))) alive++
  }
  t.equal(alive, 50)
  await reader.ready(10_000)
  const keys = await reader.client.keys('{service}:refresh:*')
  t.equal(keys.filter(key => !key.includes(':of:')).length, 51, 'and nothing is left behind')
  t.ok(await persist(async () => await two.ask('rotate', bystander.token)))
  await redis.restart()
})

t.test('Redis is killed and comes back empty: what was revoked stays so, for new processes too', async t => {
  const [one, two] = await Promise.all([startWorker(t), startWorker(t)])
  const tokens = await Promise.all(
    Array.from({ length: 5 }, async (_, i) => await one.ask('sign', `user-${i}`, `sid ${i}`))
  )
  const kept = await one.ask('sign', 'mallory', 'sid')
  for (let i = 0; i < tokens.length; i++) await persist(async () => { await one.ask('revokeSubject', `user-${i}`) })
  await until(async () => await codeOf(two.ask('verify', tokens[4]!)) === REFUSED, 'the other process to know')
  const family = await persist(async () => await one.ask('issue', 'mallory'))

  // The one who revoked is gone, and so is the store: the other still knows.
  one.child.kill('SIGKILL')
  redis.server.child.kill('SIGKILL')
  await once(redis.server.child, 'exit')
  t.equal(await codeOf(two.ask('rotate', family.token)), UNAVAILABLE)
  for (const token of tokens) t.equal(await codeOf(two.ask('verify', token)), REFUSED)
  t.equal(await two.ask('verify', kept), 'mallory')
  await redis.restart()
  t.equal(await codeOf(persist(async () => await two.ask('rotate', family.token))), REFUSED, 'sign in again')
  const three = await startWorker(t)
  for (const token of tokens) {
    await until(async () => (await codeOf(three.ask('verify', token))) === REFUSED, 'a new process to know')
  }
  t.equal(await persist(async () => await three.ask('verify', kept)), 'mallory')

  const exited = once(three.child, 'exit')
  await three.ask('close')
  t.strictSame(await exited, [0, null], 'nothing keeps a closed process')
})
