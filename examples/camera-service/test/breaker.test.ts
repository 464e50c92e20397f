import { createBreaker } from '@marty/camera-service/mediamtx/breaker.js'
import { MediaMtxRejected, MediaMtxUnavailable } from '@marty/camera-service/mediamtx/errors.js'
import t from 'tap'

t.test('opens after failures in a row, refuses at once, lets one try after a while', async t => {
  let now = 0
  const breaker = createBreaker({ threshold: 3, resetMs: 1000, now: () => now })
  const down = async (): Promise<never> => { throw new MediaMtxUnavailable() }
  const refusing = async (): Promise<never> => { throw new MediaMtxRejected() }

  await t.rejects(breaker.run(down))
  await t.rejects(breaker.run(down))
  await t.rejects(breaker.run(refusing), { code: 'MARTY_CAMERA_MEDIAMTX_REJECTED' }, 'a refusal is an answer')
  t.equal(breaker.state, 'closed')
  for (let i = 0; i < 3; i++) await t.rejects(breaker.run(down))
  t.equal(breaker.state, 'open')
  let called = false
  await t.rejects(breaker.run(async () => { called = true }), { code: 'MARTY_CAMERA_MEDIAMTX_UNAVAILABLE' })
  t.equal(called, false)

  now = 1000
  t.equal(breaker.state, 'half-open')
  let release: () => void = () => {}
  const trial = breaker.run(() => new Promise<void>(resolve => { release = resolve }))
  await t.rejects(breaker.run(async () => {}), { code: 'MARTY_CAMERA_MEDIAMTX_UNAVAILABLE' }, 'only one tries')
  release()
  await trial
  t.equal(breaker.state, 'closed')

  for (let i = 0; i < 3; i++) await t.rejects(breaker.run(down))
  breaker.reset()
  t.equal(await breaker.run(async () => 'back'), 'back')
})
