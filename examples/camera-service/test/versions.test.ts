import { eventually } from '@marty/testing'
import t from 'tap'
import { startService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

t.test('health contains no versions; signed-in callers with the permission receive them', async t => {
  const service = await startService()
  const client = await service.connect('operator')
  const told = await client.call('get_versions')
  t.match(told, { service: /^\d+\.\d+\.\d+/, node: process.version, mediamtx: /^v\d+\.\d+\.\d+/, ffmpeg: /\S/ })
  await eventually(async () => {
    if ((await client.call('get_camera_status', { device: 'camera0' })).stream_status !== 'READY') throw new Error('not ready')
  }, 60_000)
  for (const path of ['live', 'ready', 'system', 'cameras', 'mediamtx', 'nothing']) {
    const answer = await fetch(`http://127.0.0.1:${service.ports.HEALTH_PORT}/health/${path}`)
    const seen = JSON.stringify([...answer.headers]) + await answer.text()
    for (const [what, version] of Object.entries(told as Record<string, string>)) {
      t.notOk(seen.includes(version), `${path} does not tell the version of ${what}`)
    }
    t.notMatch(seen, /\bv?\d+\.\d+\.\d+(?!\d*Z)/, path)
  }
  const stranger = await service.connect()
  await t.rejects(stranger.call('get_versions'), { code: -32001 })
  stranger.close()
  client.close()
  await service.stop()
})

t.test('health hides version and path of a MediaMTX that is too old', async t => {
  const service = await startService({
    env: { CAMERA_SERVICE_MEDIAMTX_BINARY: '/usr/bin/true', CAMERA_SERVICE_CAMERAS_TEST_PATTERN: 'never' }
  })
  t.match(service.output(), '/usr/bin/true is of an unknown version')
  const text = await (await fetch(`http://127.0.0.1:${service.ports.HEALTH_PORT}/health/system`)).text()
  t.match(text, 'npm run setup')
  t.notMatch(text, /\/usr|\/bin|at least/)
  await service.stop()
})
