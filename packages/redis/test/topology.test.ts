import t from 'tap'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openRedis } from '@marty/redis'
import { freePort, startRedis, until } from './redis-server.js'

t.test('sentinel: follows the named master; an unknown name is not ready', async t => {
  const master = await startRedis(await freePort())
  t.teardown(() => master.stop())
  const folder = mkdtempSync(join(tmpdir(), 'marty-sentinel-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const config = join(folder, 'sentinel.conf')
  writeFileSync(config, `sentinel monitor main 127.0.0.1 ${master.port} 1\n`)
  const sentinel = await startRedis(await freePort(), ['--sentinel'], config)
  t.teardown(() => sentinel.stop())
  const sentinels = [{ host: '127.0.0.1', port: sentinel.port }]

  const redis = openRedis({ sentinels, name: 'main', commandTimeoutMs: 500 })
  t.teardown(() => redis.close())
  await redis.ready(10_000)
  await redis.client.set('k', 'v')
  t.equal(await redis.client.get('k'), 'v')
  t.match(redis.health(), { status: 'healthy', details: { mode: 'sentinel' } })

  const lost = openRedis({ sentinels, name: 'other', reconnectMaxDelayMs: 50 })
  t.teardown(() => lost.close())
  await t.rejects(lost.ready(300), { code: 'MARTY_REDIS_UNAVAILABLE' })
})

t.test('cluster: commands reach their slots, fail in bounded time without the nodes, and work again', async t => {
  const port = await freePort()
  const node = await startRedis(port, ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1', '--cluster-port', String(await freePort())])
  t.teardown(() => node.stop())
  const setup = openRedis({ port, commandTimeoutMs: 1_000 })
  t.teardown(() => setup.close())
  await setup.ready(5_000)
  await setup.client.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
  await until(async () => String(await setup.client.call('CLUSTER', 'INFO')).includes('cluster_state:ok'), 'the cluster to be ok')

  const redis = openRedis({ cluster: [{ host: '127.0.0.1', port }], reconnectMaxDelayMs: 100, commandTimeoutMs: 100 })
  t.teardown(() => redis.close())
  await redis.ready(10_000)
  await redis.client.set('{tag}a', '1')
  t.equal(await redis.client.get('{tag}a'), '1')
  t.match(redis.health(), { status: 'healthy', details: { mode: 'cluster' } })

  node.child.kill('SIGSTOP')
  await t.rejects(redis.client.get('{tag}a'), Error)
  node.child.kill('SIGCONT')
  await until(async () => await redis.client.get('{tag}a').then(value => value === '1', () => false), 'commands to work again')
  await node.stop()
  await t.rejects(redis.client.get('{tag}a'), Error)
})
