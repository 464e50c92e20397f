import t from 'tap'
import { CircuitBreaker } from '@marty/core'

t.test('opens after consecutive failures, and lets one probe through after the pause', async t => {
  let now = 0
  const breaker = new CircuitBreaker({ threshold: 2, resetMs: 100, now: () => now })
  breaker.failed()
  breaker.succeeded()
  breaker.failed()
  t.equal(breaker.enter(), 'closed', 'a success in between')
  breaker.failed()
  t.strictSame([breaker.state, breaker.enter()], ['open', 'open'])

  now = 100
  t.equal(breaker.state, 'half-open')
  t.strictSame([breaker.enter(), breaker.enter()], ['probe', 'open'])
  now = 150
  breaker.failed()
  now = 249
  t.equal(breaker.enter(), 'open')
  now = 250
  t.equal(breaker.enter(), 'probe')
  now = 350
  t.equal(breaker.enter(), 'probe', 'the probe before was never reported')
  breaker.succeeded()
  t.strictSame([breaker.state, breaker.enter(), breaker.enter()], ['closed', 'closed', 'closed'])
})

t.test('failures in one turn of the event loop count as one where that is asked for', async t => {
  const breaker = new CircuitBreaker({ threshold: 2, resetMs: 60_000, countsTurns: true })
  for (let call = 0; call < 5; call++) breaker.failed()
  t.equal(breaker.enter(), 'closed')
  await new Promise(setImmediate)
  breaker.failed()
  t.equal(breaker.enter(), 'open')
})
