import Fastify from 'fastify'
import t from 'tap'
import { rateLimit } from '@marty/rate-limit'

// Fastify keeps `trustProxy` behind a private symbol. If a later version moves it, the first case fails.
t.test('an application that trusts every client for its address is warned, any other is not', async t => {
  for (const [trustProxy, warnings] of [[true, 1], ['127.0.0.1', 0], [false, 0]] as const) {
    const lines: string[] = []
    const app = Fastify({ trustProxy, logger: { level: 'warn', stream: { write: line => { lines.push(line) } } } })
    t.teardown(() => app.close())

    await app.register(rateLimit, {
      rules: { calls: { limit: 60, windowMs: 60_000, by: 'address' } },
      apply: { http: ['calls'] }
    })
    await app.ready()

    t.equal(lines.filter(line => line.includes('trustProxy is true')).length, warnings, String(trustProxy))
  }
})
