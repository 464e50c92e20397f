import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, readdir, readlink, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FileRecord } from '@marty/camera-service/library/library.js'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { connect as connectTls } from 'node:tls'
import { promisify } from 'node:util'
import { cutStalledReaders, slowClientOptions } from '@marty/camera-service/slow-clients.js'
import Fastify, { type FastifyInstance } from 'fastify'
import { selfSigned } from '@marty/testing/certificates'
import { eventually } from '@marty/testing'
import t from 'tap'
import { startService, type RunningService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

const DEADLINE_MS = 120_000
/** More than the kernel takes over for a client that does not read. */
const BIG_BYTES = 64 << 20
const NAME = 'camera0_2026-01-01_00-00-00_0123456789ab.mp4'

/** The sockets the service holds, of whatever kind: what is closed is gone from here, seen from outside. */
async function socketsOf (service: RunningService): Promise<number> {
  const folder = `/proc/${service.process.pid}/fd`
  const targets = await Promise.all((await readdir(folder)).map(async fd => await readlink(join(folder, fd)).catch(() => '')))
  return targets.filter(target => target.startsWith('socket:')).length
}

async function dial (port: number, text: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => { /* cut off, as it should be */ })
  await once(socket, 'connect')
  socket.write(text)
  return socket
}

/** A service with one big recording, put into its library as an earlier run would have. */
async function withBigRecording (): Promise<{ service: RunningService, path: string, token: string }> {
  const dataDir = await mkdtemp(join(tmpdir(), 'slow-clients-'))
  t.teardown(async () => { await rm(dataDir, { recursive: true, force: true }) })
  const path = join(dataDir, NAME)
  const file = await open(path, 'w')
  await file.truncate(BIG_BYTES)
  await file.close()
  await addToLibrary(join(dataDir, 'library.sqlite'), {
    name: NAME,
    kind: 'recording',
    camera: 'camera0',
    path,
    sizeBytes: BIG_BYTES,
    createdAt: 0,
    durationSeconds: 1,
    width: 1,
    height: 1
  })
  const service = await startService({
    dataDir,
    env: {
      CAMERA_SERVICE_CAMERAS_TEST_PATTERN: 'never',
      CAMERA_SERVICE_SECURITY_RATE_LIMITING_REQUESTS_PER_MINUTE_VIEWER: '100000',
      CAMERA_SERVICE_SECURITY_RATE_LIMITING_REQUESTS_PER_MINUTE_DEFAULT: '100000'
    }
  })
  t.teardown(async () => { await service.stop() })
  return { service, path: `/files/recordings/${NAME}`, token: await service.token('viewer', '--ttl', '1h') }
}

/** In a process of its own: the library's lock ends with its holder. */
async function addToLibrary (database: string, record: FileRecord): Promise<void> {
  const library = import.meta.resolve('@marty/camera-service/library/library.js')
  const program = `import { openLibrary } from ${JSON.stringify(library)}; ` +
    `openLibrary(${JSON.stringify(database)}).addFile(${JSON.stringify(record)})`
  await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
}

t.test('900 stalled clients are disconnected while other clients are served', async t => {
  const { service, path, token } = await withBigRecording()
  const { SERVER_PORT: port, HEALTH_PORT: healthPort, MEDIAMTX_AUTH_PORT: authPort } = service.ports
  const live = await service.connect('viewer')
  const before = await socketsOf(service)

  const head = 'Host: 127.0.0.1\r\nContent-Type: application/json\r\n'
  const slow = {
    silent: '',
    headers: 'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A',
    body: `POST /rpc HTTP/1.1\r\n${head}Authorization: Bearer ${token}\r\nContent-Length: 1000\r\n\r\n{`,
    'body of a stranger': `POST /auth/refresh HTTP/1.1\r\n${head}Content-Length: 1000\r\n\r\n{`,
    reader: `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\n\r\n`
  }
  const sockets: Socket[] = []
  const trickles: NodeJS.Timeout[] = []
  t.teardown(() => {
    for (const timer of trickles) clearInterval(timer)
    for (const socket of sockets) socket.destroy()
  })
  for (const [kind, text] of Object.entries(slow)) {
    for (let i = 0; i < 160; i++) {
      const socket = await dial(port, text)
      sockets.push(socket)
      // What is slow and not dead sends a byte now and then.
      if (kind === 'headers' || kind.startsWith('body')) trickles.push(setInterval(() => { if (socket.writable) socket.write('a') }, 1000))
      if (kind === 'reader') socket.pause()
      else socket.resume()
    }
  }
  for (const other of [healthPort, authPort]) {
    for (const text of [slow.silent, slow.headers]) {
      for (let i = 0; i < 25; i++) sockets.push((await dial(other, text)).resume())
    }
  }
  const began = performance.now()
  t.equal(sockets.length, 900)
  t.ok(await socketsOf(service) > before, 'they are held at first')

  const served = fetch(`http://127.0.0.1:${port}${path}`, { headers: { authorization: `Bearer ${token}` } })
  t.equal((await (await served).arrayBuffer()).byteLength, BIG_BYTES, 'a client that reads has the whole file meanwhile')
  t.equal((await fetch(`http://127.0.0.1:${healthPort}/health/live`)).status, 200)

  await eventually(async () => {
    const left = await socketsOf(service)
    // What `fetch` keeps alive may be there or not.
    if (left > before + 4) throw new Error(`${left} sockets, ${before} before`)
  }, DEADLINE_MS)
  t.comment(`900 slow clients were closed ${Math.round(performance.now() - began)} ms after the last had connected`)
  t.equal(await live.call('ping'), 'pong', 'a WebSocket that has nothing to say is not slow')
  live.close()
})

t.test('a slow download that makes progress is not interrupted, even when its token expires', async t => {
  const { service, path } = await withBigRecording()
  const token = await service.token('viewer', '--ttl', '20s')
  const socket = await dial(
    service.ports.SERVER_PORT,
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\n\r\n`
  )
  t.teardown(() => { socket.destroy() })
  let received = 0
  const began = performance.now()
  // Longer than every limit: about two megabytes a second for half a minute.
  socket.on('data', chunk => {
    received += chunk.length
    if (received < BIG_BYTES && performance.now() - began < received / (BIG_BYTES / 30_000)) {
      socket.pause()
      setTimeout(() => { socket.resume() }, 100)
    }
  })
  await once(socket, 'close')
  t.ok(performance.now() - began > 20_000, 'it took long')
  t.ok(received > BIG_BYTES, `${received} bytes of ${BIG_BYTES}`)
})

t.test('a long call gets its response; a client that does not read is disconnected, also over TLS', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'slow-clients-'))
  const { cert, key } = selfSigned(folder, 'localhost')
  const slow = slowClientOptions(300)
  for (const tls of [null, { key, cert }]) {
    const app = Fastify({
      ...slow.fastify,
      ...(tls === null ? { http: slow.server } : { https: { ...tls, ...slow.server } })
    }) as unknown as FastifyInstance
    cutStalledReaders(app, 300)
    app.get('/long', async () => await new Promise(resolve => setTimeout(resolve, 2000, 'done')))
    app.get('/big', async (_request, reply) => await reply.send(Readable.from(endless())))
    await app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = app.server.address() as { port: number }
    const ask = async (path: string): Promise<Socket> => {
      const socket: Socket = tls === null ? connect(port, '127.0.0.1') : connectTls(port, '127.0.0.1', { ca: tls.cert })
      socket.on('error', () => { /* cut off, as it should be */ })
      await once(socket, tls === null ? 'connect' : 'secureConnect')
      socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
      return socket
    }
    t.match(String(await buffer(await ask('/long'))), /200 OK[^]*done$/)

    const cut = once(app.server, 'connection').then(async ([socket]: Socket[]) => { await once(socket!, 'close') })
    const reader = await ask('/big')
    reader.pause()
    await t.resolves(cut, tls === null ? 'http' : 'https')
    reader.destroy()
    await app.close()
  }
})

function * endless (): Generator<Buffer> {
  for (;;) yield Buffer.alloc(65_536)
}
