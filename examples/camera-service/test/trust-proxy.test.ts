import t from 'tap'
import { startService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

/** Guesses a token from each of these forwarded addresses and answers the statuses. */
async function guess (port: number, forwarded: readonly string[]): Promise<number[]> {
  const statuses: number[] = []
  for (const address of forwarded) {
    const { status } = await fetch(`http://127.0.0.1:${port}/files/snapshots/x`, { headers: { authorization: 'Bearer a.b.c', 'x-forwarded-for': address } })
    statuses.push(status)
  }
  return statuses
}

for (const [trusted, forwarded, expected] of [
  ['', ['203.0.113.1', '203.0.113.2', '203.0.113.3'], [401, 401, 429]],
  ['127.0.0.1,10.0.0.0/8', ['203.0.113.1', '203.0.113.1', '198.51.100.1, 203.0.113.1', '203.0.113.2, 10.1.2.3'], [401, 401, 429, 401]]
] as const) {
  t.test(`X-Forwarded-For is trusted from ${trusted === '' ? 'no address' : trusted}`, async t => {
    const service = await startService({
      env: {
        CAMERA_SERVICE_CAMERAS_TEST_PATTERN: 'never',
        CAMERA_SERVICE_SERVER_TRUST_PROXY: trusted,
        CAMERA_SERVICE_SECURITY_RATE_LIMITING_FAILED_LOGINS_PER_5_MINUTES: '2'
      }
    })
    t.teardown(() => service.stop())
    t.same(await guess(service.ports.SERVER_PORT, forwarded), expected)
  })
}
