import { copyFile, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { startChild } from '@marty/camera-service/process/child.js'
import { eventually } from '@marty/testing'
import type { Page } from 'playwright-core'
import t from 'tap'
import { launchChromium } from './browser.js'
import type { RpcClient } from './rpc-client.js'
import { startService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

const DEADLINE_MS = 90_000
const plenty = '100000'
const policyFile = join(await mkdtemp(join(tmpdir(), 'policy-')), 'policy.yaml')
await copyFile(resolve(import.meta.dirname, '../../../policies/rbac_policies.yaml'), policyFile)
const service = await startService({
  env: {
    CAMERA_SERVICE_SECURITY_POLICY_FILE: policyFile,
    CAMERA_SERVICE_SECURITY_RATE_LIMITING_REQUESTS_PER_MINUTE_VIEWER: plenty,
    CAMERA_SERVICE_SECURITY_RATE_LIMITING_REQUESTS_PER_MINUTE_OPERATOR: plenty,
    CAMERA_SERVICE_SERVER_MAX_CONNECTIONS_PER_ADDRESS: '50'
  }
})
t.teardown(() => service.stop())
const http = `http://127.0.0.1:${service.ports.SERVER_PORT}`
const browser = await launchChromium()
t.teardown(() => browser.close())

/** A viewer. `ended` throws while pictures still arrive, and may return the time of the last one. */
interface Reader { readonly name: string, ended (): Promise<number | void>, stop (): Promise<void> }
interface Streams { readonly rtsp: string, readonly hls: string, readonly webrtc: string }

async function readRtsp ({ rtsp }: Streams): Promise<Reader & { frames (): number }> {
  let frames = 0
  const child = await startChild({
    command: 'ffmpeg',
    args: ['-loglevel', 'error', '-nostdin', '-rtsp_transport', 'tcp', '-i', rtsp, '-c', 'copy', '-f', 'null', '-progress', 'pipe:1', '-'],
    onLine: line => { frames = Number(/^frame=(\d+)/.exec(line)?.[1] ?? frames) }
  })
  t.teardown(() => child.stop())
  await eventually(() => { if (frames < 5) throw new Error(`${frames} frames over RTSP`) }, DEADLINE_MS)
  return {
    name: 'RTSP',
    frames: () => frames,
    async ended () { if (child.running) throw new Error('RTSP goes on') },
    stop: () => child.stop()
  }
}

async function readHls ({ hls }: Streams): Promise<Reader> {
  const main = await fetch(hls)
  if (main.status !== 200) throw new Error(`HLS begins with ${main.status}`)
  const child = new URL((await main.text()).split('\n').find(line => line.includes('.m3u8') && !line.startsWith('#'))!, main.url)
  const playlist = async (): Promise<Response> => await fetch(child, { signal: AbortSignal.timeout(10_000) })
  // The newest: the oldest may be gone before it is asked for.
  const segment = await eventually(async () => {
    const name = (await (await playlist()).text()).split('\n').findLast(line => /^[^#].*\.mp4/.test(line))
    if (name === undefined) throw new Error('no segment yet')
    const url = new URL(name, child)
    const { status } = await fetch(url)
    if (status !== 200) throw new Error(`a segment is answered with ${status}`)
    return url
  }, DEADLINE_MS)
  return {
    name: 'HLS',
    async ended () {
      const answers = [await playlist(), await fetch(segment), await fetch(hls)].map(answer => answer.status)
      if (answers.some(status => status !== 401)) throw new Error(`HLS goes on: ${answers.join(', ')}`)
    },
    async stop () {}
  }
}

async function readWebRtc ({ webrtc }: Streams): Promise<Reader> {
  const page: Page = await browser.newPage()
  await page.goto(http)
  await page.evaluate(`(async () => {
    const { openWhep } = await import('/whep.js')
    const { stream } = await openWhep(${JSON.stringify(webrtc)}, () => {})
    const video = document.body.appendChild(document.createElement('video'))
    Object.assign(video, { id: 'watched', muted: true, srcObject: stream })
    const onFrame = () => { video.dataset.lastFrameAt = Date.now(); video.requestVideoFrameCallback(onFrame) }
    video.requestVideoFrameCallback(onFrame)
    await video.play()
  })()`)
  const frames = async (): Promise<number> =>
    await page.evaluate("document.querySelector('#watched').getVideoPlaybackQuality().totalVideoFrames")
  await eventually(async () => { if (await frames() < 5) throw new Error('no frames over WebRTC') }, DEADLINE_MS)
  return {
    name: 'WebRTC',
    async ended () {
      const before = await frames()
      await page.waitForTimeout(1500)
      if (await frames() !== before) throw new Error('WebRTC goes on')
      return Number(await page.evaluate("document.querySelector('#watched').dataset.lastFrameAt"))
    },
    async stop () { await page.close() }
  }
}

const ready = async (client: RpcClient): Promise<void> => {
  await eventually(async () => {
    if ((await client.call('get_camera_status', { device: 'camera0' })).stream_status !== 'READY') throw new Error('not ready')
  }, DEADLINE_MS)
}
const streamsOf = async (client: RpcClient): Promise<Streams> => (await client.call('get_stream_url', { device: 'camera0' })).streams
const signIn = async (credential: string): Promise<RpcClient> => {
  const client = await service.connect()
  await client.call('authenticate', { auth_token: credential })
  return client
}
const logout = async (credential: string): Promise<void> => {
  const { status } = await fetch(`${http}/auth/logout`, { method: 'POST', headers: { authorization: `Bearer ${credential}` } })
  if (status !== 204) throw new Error(`sign-out: ${status}`)
}
const watchAll = async (credential: string): Promise<Reader[]> => {
  const client = await signIn(credential)
  const readers = [
    await readRtsp(await streamsOf(client)),
    await readHls(await streamsOf(client)),
    await readWebRtc(await streamsOf(client))
  ]
  client.close()
  return readers
}
async function allEnd (readers: readonly Reader[], deadlineMs = DEADLINE_MS): Promise<void> {
  const began = Date.now()
  await Promise.all(readers.map(async reader => {
    const lastAt = await eventually(async () => await reader.ended(), deadlineMs)
    t.comment(`${reader.name} ended within ${(lastAt ?? Date.now()) - began} ms`)
  }))
  await Promise.all(readers.map(async reader => { await reader.stop() }))
}

const watcher = await signIn(await service.token('viewer', '--ttl', '1h'))
await ready(watcher)
const readers = async (): Promise<number> => (await watcher.call('get_camera_status', { device: 'camera0' })).metrics.readers
// Somebody else, whose picture must go on through all of it.
const bystanderToken = await service.token('operator', '--user', 'bystander', '--ttl', '1h')
const watchAsBystander = async (): ReturnType<typeof readRtsp> => {
  return await readRtsp(await streamsOf(await signIn(bystanderToken)))
}
/** Whether the service has ended a media session of the bystander. */
const isBystanderEnded = (): boolean => service.output().split('\n')
  .some(line => line.includes('media session ended') && line.includes('"principal":"bystander"'))
let bystander = await watchAsBystander()
const goesOn = async (): Promise<void> => {
  const seen = bystander.frames()
  const hasEnded = await eventually(async () => {
    if (await bystander.ended().then(() => true, () => false)) return true
    if (bystander.frames() <= seen + 10) throw new Error('the picture of somebody else has stopped')
    return false
  }, DEADLINE_MS)
  if (isBystanderEnded()) throw new Error("the service has ended somebody else's media session")
  // On a starved machine, MediaMTX itself drops readers. Players then connect again.
  if (hasEnded) bystander = await watchAsBystander()
}

t.test('signing out ends RTSP, HLS and WebRTC streams', async t => {
  const token = await service.token('viewer', '--user', 'alice', '--ttl', '1h')
  const readers = await watchAll(token)
  await logout(token)
  await t.resolves(allEnd(readers))
  await goesOn()
})

t.test('an expired token ends the streams that were started with it', async t => {
  // Long enough for all three to begin on a machine that is busy with other things.
  const readers = await watchAll(await service.token('viewer', '--user', 'bob', '--ttl', '90s'))
  await t.resolves(allEnd(readers, 90_000 + DEADLINE_MS))
  await goesOn()
})

t.test('a revoked API key ends the streams that were started with it', async t => {
  const key = await service.apiKey('create', '--name', 'wall', '--role', 'viewer')
  const [{ keyId }] = JSON.parse(await service.apiKey('list', '--json'))
  const readers = await watchAll(key)
  await service.apiKey('revoke', keyId)
  await t.resolves(allEnd(readers))
  await goesOn()
})

t.test('an ended browser session ends the streams of its owner', async t => {
  const client = await service.connect()
  const { session_id: session } = await client.call('authenticate', {
    auth_token: await service.token('viewer', '--user', 'dora', '--ttl', '1h')
  })
  const reader = await readRtsp(await streamsOf(client))
  const { status } = await fetch(`${http}/auth/logout`, { method: 'POST', headers: { authorization: `Bearer ${session}` } })
  t.equal(status, 204)
  await t.resolves(allEnd([reader]))
  client.close()
})

t.test('signing out while MediaMTX hangs takes effect when it responds again, also for 200 streams of one user', async t => {
  const token = await service.token('viewer', '--user', 'eve', '--ttl', '1h')
  const client = await signIn(token)
  const { rtsp } = await streamsOf(client)
  const sockets = await Promise.all(Array.from({ length: 200 }, () => playRtsp(new URL(rtsp))))
  t.teardown(() => { for (const socket of sockets) socket.destroy() })
  const pid = Number(await readFile(join(service.dataDir, 'mediamtx.pid'), 'utf8'))
  process.kill(pid, 'SIGSTOP')
  await logout(token)
  // Long enough for a try to fail, shorter than the time after which a media server that hangs is replaced.
  await new Promise(resolve => setTimeout(resolve, 4000))
  process.kill(pid, 'SIGCONT')
  await eventually(() => {
    const open = sockets.filter(socket => !socket.closed).length
    if (open > 0) throw new Error(`${open} sessions go on`)
  }, DEADLINE_MS)
  t.equal(Number(await readFile(join(service.dataDir, 'mediamtx.pid'), 'utf8')), pid, 'the same media server')
  client.close()
  await goesOn()
})

t.test('a stream that is just starting during the sign-out ends too', async t => {
  await goesOn()
  const token = await service.token('viewer', '--user', 'gina', '--ttl', '1h')
  const client = await signIn(token)
  const { rtsp, hls } = await streamsOf(client)
  const beginning = Array.from({ length: 40 }, async (_, index) => {
    await new Promise(resolve => setTimeout(resolve, index * 10))
    return await (index % 2 === 0 ? playRtsp(new URL(rtsp)) : fetch(hls).then(async answer => { await answer.text() }))
  })
  const begun = Promise.allSettled(beginning)
  // In the middle of them.
  await new Promise(resolve => setTimeout(resolve, 200))
  await logout(token)
  const sockets = (await begun).flatMap(outcome => outcome.status === 'fulfilled' && outcome.value !== undefined ? [outcome.value] : [])
  t.teardown(() => { for (const socket of sockets) socket.destroy() })
  await t.resolves(eventually(async () => {
    const open = sockets.filter(socket => !socket.closed).length
    const left = await readers()
    if (open > 0 || left !== 1) throw new Error(`${open} connections and ${left} readers, with the bystander`)
  }, DEADLINE_MS))
  client.close()
})

t.test('a role that loses stream:view ends its members\' streams; losing another permission does not', async t => {
  const text = await readFile(policyFile, 'utf8')
  const frank = await readRtsp(await streamsOf(await signIn(await service.token('viewer', '--user', 'frank', '--ttl', '1h'))))
  const boss = await signIn(await service.token('operator', '--user', 'bystander', '--ttl', '1h'))
  // From operator to what a viewer may: still watching.
  await writeFile(policyFile, text.replace(/^ {6}- recording:control\n/m, ''))
  await eventually(async () => {
    const answer = await boss.call('stop_recording', { device: 'camera0' }).then(() => 'ok', error => error.code)
    if (answer !== -32002) throw new Error(String(answer))
  }, DEADLINE_MS)
  await goesOn()
  await t.rejects(frank.ended())
  await writeFile(policyFile, text.replace(/^ {6}- stream:view\n/m, ''))
  await t.resolves(allEnd([frank, bystander]))
  t.ok(isBystanderEnded())
  boss.close()
})

/** A reader without a decoder: RTSP over TCP (RFC 2326), whose connection closes when the session is ended. */
async function playRtsp (url: URL): Promise<Socket> {
  const socket = connect(Number(url.port), url.hostname)
  socket.on('error', () => {})
  await once(socket, 'connect')
  const authorization = `Basic ${Buffer.from(`${url.username}:${url.password}`).toString('base64')}`
  const target = `rtsp://${url.host}${url.pathname}`
  let sequence = 0
  let received = ''
  let playing = false
  socket.on('data', chunk => { if (!playing) received += chunk.toString('latin1') })
  const ask = async (method: string, where: string, headers = ''): Promise<string> => {
    received = ''
    socket.write(`${method} ${where} RTSP/1.0\r\nCSeq: ${++sequence}\r\nAuthorization: ` +
      `${authorization}\r\n${headers}\r\n`)
    const answer = await eventually(() => {
      if (!/^RTSP\/1\.0 \d{3}[^]*\r\n\r\n/.test(received) && !socket.closed) throw new Error(`${method} is not answered`)
      return received
    }, DEADLINE_MS)
    if (!answer.startsWith('RTSP/1.0 200')) throw new Error(`${method}: ${answer.slice(0, 100)}`)
    return answer
  }
  const description = await ask('DESCRIBE', target, 'Accept: application/sdp\r\n')
  const control = /a=control:(\S*track\S*|\S*mediaUUID\S*|rtsp:\S+\/\S+)/.exec(description)?.[1] ?? ''
  const track = control.startsWith('rtsp:') ? control : `${target}/${control}`
  const setup = await ask('SETUP', track, 'Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n')
  await ask('PLAY', `${target}/`, `Session: ${/Session: ([^;\r\n]+)/.exec(setup)![1]!}\r\n`)
  playing = true
  return socket
}
