import { eventually } from '@marty/testing'
import t from 'tap'
import { startService } from './running-service.js'

const service = await startService()
t.teardown(() => service.stop())
const url = `http://127.0.0.1:${service.ports.SERVER_PORT}/metrics`
const get = async (token?: string): Promise<Response> =>
  await fetch(url, token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } })

t.test('the metrics are for those who hold system:metrics, and count cameras, recordings and refusals', async t => {
  t.equal((await get()).status, 401)
  t.equal((await get(await service.token('viewer'))).status, 403)
  const monitor = await service.apiKey('create', '--name', 'prometheus', '--role', 'monitor')
  const lines = await eventually(async () => {
    const answer = await get(monitor)
    const lines = (await answer.text()).split('\n')
    if (!lines.includes('cameras{status="CONNECTED"} 1')) throw new Error(`${answer.status}: no camera is connected`)
    return lines
  }, 60_000)
  for (const line of [
    'cameras{status="DISCONNECTED"} 0',
    'recordings_active 0',
    'policy_generation 1',
    'audit_healthy 1',
    'rate_limit_hits_total{rule="requests"} 0',
    'http_requests_total{method="GET",route="/metrics",status="403",principal="anonymous"} 1'
  ]) {
    t.ok(lines.includes(line), line)
  }
  t.ok(lines.some(line => line.startsWith('nodejs_eventloop_lag_p99_seconds ')))
})
