import t from 'tap'
import { createGuardedStore, type BatchStore, type Charge } from '@marty/rate-limit'

const charge = (subject: string): Charge => ({ rule: 'r', subject, limit: 10, windowMs: 60_000, cost: 1 })

/** A store that answers when it is told to, and notes how much it was asked at once. */
function heldStore (): {
  readonly store: BatchStore
  readonly sizes: Array<[requests: number, charges: number]>
  answer(): void
} {
  const sizes: Array<[number, number]> = []
  const held: Array<() => void> = []
  return {
    sizes,
    answer () {
      for (const release of held.splice(0)) release()
    },
    store: {
      takeAll: async requests => {
        sizes.push([requests.length, requests.reduce((sum, charges) => sum + charges.length, 0)])
        await new Promise<void>(resolve => {
          held.push(resolve)
        })
        return requests.map(charges => ({
          allowed: true,
          degraded: false,
          states: charges.map(() => ({ remaining: 9, resetUs: 1, retryUs: 0 }))
        }))
      }
    }
  }
}

t.test('calls are small while Redis has little to do, larger when it has much; everybody is answered', async t => {
  const { store, sizes, answer } = heldStore()
  const guarded = createGuardedStore({ store, deadlineMs: 60_000 })
  const asked = Array.from({ length: 200 }, async (_, i) => await guarded.take([charge(`user-${i}`)]))
  t.same(
    sizes.slice(0, 4).map(([requests]) => requests),
    [16, 16, 16, 16]
  )
  t.same(
    sizes.slice(4).map(([requests]) => requests),
    [64, 64]
  )
  const answering = setInterval(answer)
  t.teardown(() => {
    clearInterval(answering)
  })
  t.ok((await Promise.all(asked)).every(({ allowed }) => allowed))
  t.equal(
    sizes.reduce((sum, [requests]) => sum + requests, 0),
    200
  )
})

t.test('a call never carries more windows than a script can be given', async t => {
  const { store, sizes, answer } = heldStore()
  const guarded = createGuardedStore({ store, deadlineMs: 60_000 })
  const many = Array.from({ length: 250 }, (_, i) => charge(`window-${i}`))
  const answering = setInterval(answer)
  t.teardown(() => {
    clearInterval(answering)
  })
  await Promise.all(Array.from({ length: 64 }, async () => await guarded.take(many)))
  t.ok(
    sizes.every(([, charges]) => charges < 2_250),
    JSON.stringify(sizes)
  )
})
