import { rm } from 'node:fs/promises'
import { once } from 'node:events'
import { request, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { eventually } from '@marty/testing'
import t, { type Test } from 'tap'
import { startService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

const service = await startService()
t.teardown(() => service.stop())
const client = await service.connect('operator')
await eventually(async () => {
  if ((await client.call('get_camera_status', { device: 'camera0' })).stream_status !== 'READY') throw new Error('not ready')
}, 60_000)
const { download_url: url, filename, file_size: size } = await client.call('take_snapshot', { device: 'camera0' })
await client.call('start_recording', { device: 'camera0', duration: 1 })
await eventually(async () => { if ((await client.call('list_recordings')).total !== 1) throw new Error('not finished') }, 60_000)
client.close()

const authorization = `Bearer ${await service.token('viewer', '--ttl', '1h')}`
interface Answer { readonly status: number, readonly headers: IncomingHttpHeaders, readonly body: Buffer }

/** Not `fetch`, which adds `Cache-Control: no-cache` to every request with a condition. */
async function get (headers: Record<string, string> = {}, { path = url as string, method = 'GET' } = {}): Promise<Answer> {
  const asked = request({ host: '127.0.0.1', port: service.ports.SERVER_PORT, path, method, headers: { authorization, ...headers } }).end()
  const [answer] = await once(asked, 'response') as [IncomingMessage]
  return { status: answer.statusCode!, headers: answer.headers, body: await buffer(answer) }
}

async function isProblem (t: Test, answer: Answer, status: number, code: string): Promise<void> {
  t.equal(answer.status, status)
  t.match(answer.headers['content-type'], 'application/problem+json')
  t.equal(answer.headers['content-disposition'], undefined)
  t.equal(answer.headers['content-length'], String(answer.body.length))
  t.match(JSON.parse(String(answer.body)), { status, code, instance: /^\/files\// })
}

t.test('a range outside the file: 416 as a problem document, with the length of the file', async t => {
  for (const range of [`bytes=${size}-`, `bytes=${size + 5}-${size + 9}`, 'bytes=-0', 'bytes=x-y']) {
    const answer = await get({ range })
    t.equal(answer.headers['content-range'], `bytes */${size}`, range)
    await isProblem(t, answer, 416, 'MARTY_CAMERA_RANGE_NOT_SATISFIABLE')
  }
  const { files } = await (await service.connect('viewer')).call('list_recordings')
  await isProblem(t, await get({ range: 'bytes=999999999-' }, { path: files[0].download_url }), 416, 'MARTY_CAMERA_RANGE_NOT_SATISFIABLE')
})

t.test('a failed precondition: 412 as a problem document', async t => {
  await isProblem(t, await get({ 'if-match': '"another"' }), 412, 'MARTY_CAMERA_PRECONDITION_FAILED')
  await isProblem(t, await get({ 'if-unmodified-since': 'Thu, 01 Jan 1970 00:00:00 GMT' }), 412, 'MARTY_CAMERA_PRECONDITION_FAILED')
  t.equal((await get({ 'if-match': '*' })).status, 200)
})

t.test('an unchanged file: 304 without a body and without headers about one', async t => {
  const { headers } = await get()
  const etag = headers.etag!
  for (const condition of [{ 'if-none-match': etag }, { 'if-none-match': '*' }, { 'if-modified-since': headers['last-modified']! }]) {
    const answer = await get(condition)
    t.equal(answer.status, 304)
    t.equal(answer.body.length, 0)
    t.equal(answer.headers['etag'], etag)
    for (const name of ['content-length', 'content-disposition', 'content-type']) t.equal(answer.headers[name], undefined, name)
  }
  t.equal((await get({ 'if-none-match': '"another"' })).status, 200)
})

t.test('HEAD has the status and the headers of GET, for files and for errors', async t => {
  const whole = await get({}, { method: 'HEAD' })
  t.equal(whole.status, 200)
  t.equal(whole.headers['content-length'], String(size))
  t.equal(whole.headers['content-type'], 'image/jpeg')
  t.equal(whole.headers['accept-ranges'], 'bytes')
  t.equal(whole.body.length, 0)
  const part = await get({ range: 'bytes=0-9' }, { method: 'HEAD' })
  t.equal(part.status, 206)
  t.equal(part.headers['content-length'], '10')
  const beyond = await get({ range: `bytes=${size}-` }, { method: 'HEAD' })
  t.equal(beyond.status, 416)
  t.match(beyond.headers['content-type'], 'application/problem+json')
  t.equal(beyond.body.length, 0)
  t.equal((await get({}, { method: 'HEAD', path: '/files/snapshots/nothing.jpg' })).status, 404)
})

t.test('If-Range: the range if the file is the same, otherwise the whole file', async t => {
  const { headers } = await get()
  for (const validator of [headers.etag!, headers['last-modified']!]) {
    const part = await get({ range: 'bytes=0-9', 'if-range': validator })
    t.equal(part.status, 206, validator)
    t.equal(part.headers['content-range'], `bytes 0-9/${size}`)
    t.equal(part.body.length, 10)
  }
  t.notMatch(headers['etag'], /^W\//, 'a strong validator, as If-Range needs one')
  for (const validator of ['"another"', 'Thu, 01 Jan 1970 00:00:00 GMT', `W/${headers.etag!}`, 'nonsense', `"x${headers.etag!}`]) {
    const whole = await get({ range: 'bytes=0-9', 'if-range': validator })
    t.equal(whole.status, 200, validator)
    t.equal(whole.body.length, size)
  }
})

t.test('several ranges, an unknown unit and a malformed range: the whole file', async t => {
  for (const range of ['bytes=0-1,4-5', 'pieces=0-1', 'bytes']) {
    const answer = await get({ range })
    t.equal(answer.status, 200, range)
    t.equal(answer.headers['content-type'], 'image/jpeg')
    t.equal(answer.body.length, size)
  }
})

t.test('a file that was deleted by hand or never existed: 404 as a problem document', async t => {
  await rm(join(service.dataDir, 'snapshots', filename))
  for (const path of [url, '/files/recordings/nothing.mp4']) {
    await isProblem(t, await get({}, { path }), 404, 'MARTY_CAMERA_FILE_NOT_FOUND')
    await isProblem(t, await get({ range: 'bytes=0-9' }, { path }), 404, 'MARTY_CAMERA_FILE_NOT_FOUND')
  }
})
