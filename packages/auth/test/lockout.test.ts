import t, { type Test } from 'tap'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { AccountLocked, createLockout, type Lockout, type LockoutSettings } from '@marty/auth'
import { openRedis } from '@marty/redis'
import { freePort, startRedis } from '@marty/testing'
import { advanceRedis } from './lockout-clock.js'

const HOME = '192.0.2.1'

interface Bench {
  make (settings?: LockoutSettings): Lockout
  /** Lets time pass, or steps the clock back. */
  advance (ms: number): Promise<void>
}

/** The wait a refusal asks for; 0 when the try is allowed. */
async function waitOf (lockout: Lockout, account: string, address: string | null = HOME): Promise<number> {
  try {
    await lockout.check(account, address)
    return 0
  } catch (error) {
    if (!(error instanceof AccountLocked)) throw error
    return Number(error.headers['retry-after'])
  }
}

async function failTimes (
  lockout: Lockout,
  times: number,
  account: string,
  address: string | null = HOME
): Promise<void> {
  for (let i = 0; i < times; i++) await lockout.fail(account, address)
}

const benches: Record<string, (t: Test) => Promise<Bench>> = {
  async memory () {
    let time = 1_000_000
    return {
      make: settings => createLockout('memory', { clock: () => time, ...settings }),
      async advance (ms) { time += ms }
    }
  },
  async redis (t) {
    const server = await startRedis(await freePort())
    // A slow machine must not make an outage of it.
    const connection = openRedis({ port: server.port, commandTimeoutMs: 10_000 })
    t.teardown(async () => { await connection.close(); await server.stop() })
    await connection.ready(10_000)
    return {
      make: settings => createLockout({ redis: connection.client }, { onProblem (error) { throw error }, ...settings }),
      advance: async ms => { await advanceRedis(connection.client, ms) }
    }
  }
}

for (const [kind, start] of Object.entries(benches)) {
  void t.test(`lockout in ${kind}`, async t => {
    const { make, advance } = await start(t)

    await t.test('each failure costs a longer wait, the fifth a lock of a quarter of an hour', async t => {
      const lockout = make()
      t.equal(await waitOf(lockout, 'slow'), 0, 'a stranger may try')
      await lockout.fail('slow', HOME)
      t.equal(await waitOf(lockout, 'slow'), 0, 'one mistake is free')
      for (const seconds of [1, 2, 4, 900]) {
        // Sent at once, so that no time passes between them.
        const [, wait] = await Promise.all([lockout.fail('slow', HOME), waitOf(lockout, 'slow')])
        t.equal(wait, seconds)
        await advance(seconds * 1000)
        t.equal(await waitOf(lockout, 'slow'), 0, `may try again after ${seconds} s`)
      }
      await lockout.fail('slow', HOME)
      t.equal(await waitOf(lockout, 'slow'), 0, 'after the lock it begins anew')
      const [, wait] = await Promise.all([lockout.fail('slow', HOME), waitOf(lockout, 'slow')])
      t.equal(wait, 1)
    })

    await t.test('the refusal is a 429 with Retry-After that says nothing of the account', async t => {
      const lockout = make()
      await failTimes(lockout, 5, 'told')
      const error = (await Promise.resolve()
        .then(async () => {
          await lockout.check('told', HOME)
        })
        .catch((error: unknown) => error)) as InstanceType<typeof AccountLocked>
      t.match(error, {
        code: 'MARTY_AUTH_LOCKED',
        statusCode: 429,
        rpcCode: -32040,
        message: 'Too many failed attempts; wait before the next one'
      })
      const wait = error.data['retry_after_ms'] as number
      t.ok(Number.isInteger(wait) && wait > 0 && wait <= 900_000)
      t.equal(error.headers['retry-after'], String(Math.ceil(wait / 1000)))
      t.notMatch(JSON.stringify(error), /told|192\.0\.2\.1/)
    })

    await t.test('a try that is too early counts as nothing', async t => {
      const lockout = make()
      await failTimes(lockout, 4, 'early')
      for (let i = 0; i < 20; i++) await waitOf(lockout, 'early')
      await advance(4_000)
      t.equal(await waitOf(lockout, 'early'), 0)
    })

    await t.test('the account is locked at that address alone, and the address for that account alone', async t => {
      const lockout = make()
      await failTimes(lockout, 5, 'victim', '2001:db8:1:2:aaaa::1')
      t.not(await waitOf(lockout, 'victim', '2001:db8:1:2:bbbb::9'), 0, 'the whole /64 is one address')
      t.equal(await waitOf(lockout, 'victim', '2001:db8:1:3::1'), 0)
      t.equal(await waitOf(lockout, 'victim', HOME), 0)
      t.equal(await waitOf(lockout, 'victim', null), 0)
      t.equal(await waitOf(lockout, 'Victim', '2001:db8:1:2:aaaa::1'), 0)
      await failTimes(lockout, 5, 'mapped', '::ffff:192.0.2.7')
      t.not(await waitOf(lockout, 'mapped', '192.0.2.7'), 0)
      await failTimes(lockout, 5, 'nowhere', null)
      t.not(await waitOf(lockout, 'nowhere', 'not an address'), 0, 'nonsense buys no fresh tries')
    })

    await t.test('success forgets the failures', async t => {
      const lockout = make()
      await failTimes(lockout, 4, 'good')
      await lockout.succeed('good', '198.51.100.1')
      t.not(await waitOf(lockout, 'good'), 0, 'success elsewhere proves nothing here')
      await lockout.succeed('good', HOME)
      t.equal(await waitOf(lockout, 'good'), 0)
      await failTimes(lockout, 1, 'good')
      t.equal(await waitOf(lockout, 'good'), 0)
      await lockout.succeed('nobody', HOME)
    })

    await t.test('a failure counts for the window and no longer, and the window slides', async t => {
      const lockout = make()
      await failTimes(lockout, 4, 'window')
      await advance(450_000)
      // Four that lapse before the next ones, and two that do not.
      await lockout.succeed('window', HOME)
      await failTimes(lockout, 2, 'window')
      await advance(450_000)
      await failTimes(lockout, 2, 'window')
      await advance(450_000)
      await failTimes(lockout, 2, 'window')
      await advance(10_000)
      t.equal(await waitOf(lockout, 'window'), 0, 'six failures, never five within the window')
      await failTimes(lockout, 1, 'window')
      t.ok(await waitOf(lockout, 'window') > 800, 'five of them now')
    })

    await t.test('a hundred failures at once: each counts, one lock, told once', async t => {
      const told: unknown[][] = []
      const before = Date.now()
      const lockout = make({ maxFailures: 100, onLocked: (...lock) => { told.push(lock) } })
      await Promise.all(Array.from({ length: 99 }, async () => { await lockout.fail('many', HOME) }))
      t.strictSame(told, [])
      await Promise.all(Array.from({ length: 100 }, async () => { await lockout.fail('many', HOME) }))
      t.equal(told.length, 1)
      t.strictSame(told[0]!.slice(0, 2), ['many', HOME])
      t.ok(
        (told[0]![2] as number) >= before + 900_000 && (told[0]![2] as number) <= Date.now() + 900_000,
        'until is a time of day'
      )
      t.not(await waitOf(lockout, 'many'), 0)
    })

    await t.test('tries that were under way when it locked do not prolong the lock', async t => {
      const lockout = make()
      t.strictSame(
        await Promise.all(Array.from({ length: 50 }, async () => await waitOf(lockout, 'race'))),
        new Array(50).fill(0)
      )
      await failTimes(lockout, 5, 'race')
      await advance(600_000)
      await Promise.all(Array.from({ length: 45 }, async () => { await lockout.fail('race', HOME) }))
      t.ok(await waitOf(lockout, 'race') <= 300)
      await advance(300_000)
      t.equal(await waitOf(lockout, 'race'), 0)
    })

    await t.test('a clock that steps back neither opens a lock nor makes it longer than one', async t => {
      const lockout = make()
      await failTimes(lockout, 5, 'back')
      await failTimes(lockout, 1, 'back once')
      await advance(-3_600_000)
      const wait = await waitOf(lockout, 'back')
      t.ok(wait > 800 && wait <= 900)
      t.equal(await waitOf(lockout, 'back once'), 0)
      await failTimes(lockout, 4, 'back once')
      t.ok(await waitOf(lockout, 'back once') > 800, 'what was counted still counts')
      await advance(900_000)
      t.equal(await waitOf(lockout, 'back'), 0)
    })

    await t.test('any text is an account, each its own', async t => {
      const lockout = make({ maxFailures: 1 })
      const accounts = [
        '',
        ' ',
        '__proto__',
        'constructor',
        'a\0b',
        'a\r\nb',
        '{a}',
        '\u202E',
        '\uD800',
        'x'.repeat(1_000_000),
        `${'x'.repeat(1_000_000)}y`
      ]
      for (const account of accounts) {
        t.equal(await waitOf(lockout, account), 0)
        await lockout.fail(account, HOME)
      }
      for (const account of accounts) t.equal(await waitOf(lockout, account), 900)
      t.equal(await waitOf(lockout, `${HOME} x`), 0)
    })

    await t.test('own limits; a wait is never longer than a lock', async t => {
      const lockout = make({ maxFailures: 10, windowSeconds: 60, lockSeconds: 3 })
      const [, wait] = await Promise.all([failTimes(lockout, 9, 'own'), waitOf(lockout, 'own')])
      t.ok(wait <= 3)
      t.ok(await waitOf(lockout, 'own') <= 3)
      await advance(3_000)
      t.equal(await waitOf(lockout, 'own'), 0)
      await failTimes(lockout, 1, 'own')
      await advance(3_000)
      t.equal(await waitOf(lockout, 'own'), 0)
      await failTimes(lockout, 1, 'own')
      t.equal(await waitOf(lockout, 'own'), 0, 'failures before a lock are paid for')
    })
  })
}

t.test('as the model says, whatever happens (property)', t => {
  const step = fc.record({
    act: fc.constantFrom('fail', 'fail', 'fail', 'check', 'succeed'),
    account: fc.constantFrom('a', 'b'),
    pass: fc.oneof(fc.integer({ min: 0, max: 3_000 }), fc.integer({ min: -10_000, max: 1_000_000 }))
  })
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.integer({ min: 1, max: 7 }),
      fc.integer({ min: 1, max: 1_200 }),
      fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 1_200 })),
      (steps, maxFailures, windowSeconds, lockSeconds) => {
        let clock = 0
        let time = 0
        let locks = 0
        let expectedLocks = 0
        const failures: Record<string, number[]> = { a: [], b: [] }
        const openAt: Record<string, number> = { a: 0, b: 0 }
        const lockedUntil: Record<string, number> = { a: 0, b: 0 }
        const lockout = createLockout('memory', {
          maxFailures,
          windowSeconds,
          lockSeconds,
          clock: () => clock,
          onLocked: () => {
            locks++
          }
        })
        for (const { act, account, pass } of steps) {
          clock += pass
          time += Math.max(0, pass)
          let allowed = true
          try { void lockout.check(account, null) } catch { allowed = false }
          if (allowed !== (time >= openAt[account]!)) return false
          if (act === 'succeed') {
            void lockout.succeed(account, null)
            failures[account] = []
            openAt[account] = lockedUntil[account] = 0
          }
          if (act !== 'fail') continue
          void lockout.fail(account, null)
          if (time < lockedUntil[account]!) continue
          const recent = [...failures[account]!.filter(at => time - at < windowSeconds * 1000), time]
          failures[account] = recent
          if (recent.length >= maxFailures) {
            expectedLocks++
            failures[account] = []
            openAt[account] = lockedUntil[account] = time + lockSeconds * 1000
          } else {
            openAt[account] =
              recent.length < 2 ? 0 : time + Math.min(lockSeconds * 1000, 1000 * 2 ** (recent.length - 2))
          }
        }
        return locks === expectedLocks
      }
    ),
    { numRuns: 2_000 }
  )
  t.end()
})

t.test('a million accounts do not fill the memory, nor free the one that is locked', async t => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const lockout = createLockout('memory')
  await failTimes(lockout, 5, 'guessed')
  gc()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 1_000_000; i++) void lockout.fail(`account ${i}`, HOME)
  gc()
  const grownMb = (process.memoryUsage().heapUsed - before) / 2 ** 20
  t.comment(`${grownMb.toFixed(1)} MB`)
  t.ok(grownMb < 40, `${grownMb.toFixed(1)} MB`)
  t.not(await waitOf(lockout, 'guessed'), 0)
  await failTimes(lockout, 4, 'account 999999')
  t.not(await waitOf(lockout, 'account 999999'), 0, 'the latest are still known')
  lockout.close()
  t.equal(await waitOf(lockout, 'guessed'), 0)
})

t.test('what is given up first: locks that are over, then failures, then standing locks', async t => {
  let time = 0
  const lockout = createLockout('memory', { maxFailures: 2, clock: () => time })
  const lockAll = (name: string, count: number): void => {
    for (let i = 0; i < count * 2; i++) void lockout.fail(`${name} ${i >> 1}`, null)
  }
  lockAll('over', 1_000)
  time = 890_000
  await lockout.fail('failed', null)
  lockAll('standing', 98_999)
  time = 900_000
  await lockout.fail('newcomer', null)
  await lockout.fail('failed', null)
  t.not(await waitOf(lockout, 'failed', null), 0, 'locks that were over made room')
  lockAll('more', 1_000)
  await lockout.fail('newcomer', null)
  t.equal(await waitOf(lockout, 'newcomer', null), 0, 'then the failure was forgotten')
  t.equal(await waitOf(lockout, 'standing 0', null), 0, 'and then the oldest locks')
  t.not(await waitOf(lockout, 'standing 98998', null), 0)
  t.not(await waitOf(lockout, 'more 999', null), 0)
})
