import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { percentile, prepareLoad, runLoad } from '@marty/bench'
import t, { type Test } from 'tap'

async function serve (t: Test, listener: RequestListener): Promise<number> {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return (server.address() as AddressInfo).port
}

t.test('a load that is not answered as it must be stops, rather than being counted', async t => {
  const chunked = await serve(t, (_, response) => {
    response.write('a')
    response.end('b')
  })
  const job = { credential: { kind: 'none' }, requests: 3, connections: 1 } as const
  await t.rejects(runLoad({ ...job, port: chunked }), { message: /without Content-Length/ })
  const closing = await serve(t, request => {
    request.socket.destroy()
  })
  await t.rejects(runLoad({ ...job, port: closing }), { message: /closed a keep-alive connection|ECONNRESET/ })
})

t.test('every request is made once, on connections that are kept, with the credential asked for', async t => {
  const tokens: Array<string | undefined> = []
  const sockets = new Set<unknown>()
  const port = await serve(t, (request, response) => {
    tokens.push(request.headers.authorization)
    sockets.add(request.socket)
    response.writeHead(tokens.length % 2 === 1 ? 200 : 401, { 'content-length': 2 }).write('o')
    setImmediate(() => response.end('k'))
  })
  const job = { port, requests: 10, connections: 2 }
  t.same((await runLoad({ ...job, credential: { kind: 'same', token: 'abc' } })).statuses, { 200: 5, 401: 5 })
  t.strictSame(new Set(tokens.splice(0)), new Set(['Bearer abc']))
  const jwt = {
    ...job,
    credential: { kind: 'jwt', secret: 'c2VjcmV0', header: { alg: 'HS256' }, claims: { sub: 'alice' } }
  } as const
  await prepareLoad(jwt)
  await runLoad(jwt)
  t.equal(new Set(tokens.splice(0)).size, 10, 'each token is another')
  const { statuses, latenciesMs } = await runLoad({
    ...job,
    perSecond: 1_000,
    credential: { kind: 'wrong key', start: 'p_e_id_' }
  })
  t.equal(
    Object.values(statuses).reduce((sum, count) => sum + count, 0),
    10
  )
  t.equal(latenciesMs.length, tokens.length)
  t.match(tokens[0], /^Bearer p_e_id_[0-9a-f]{43}_[0-9A-Za-z]{6}$/)
  t.equal(sockets.size, 2)
})

t.test('percentiles', async t => {
  t.equal(percentile([4, 1, 3, 2], 0.5), 2)
  t.equal(percentile([4, 1, 3, 2], 0.99), 4)
  t.ok(Number.isNaN(percentile([], 0.5)))
})

t.test('a run has exactly the metrics it promises, each beside its goal', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'bench-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'auth.json')
  const { stdout } = await promisify(execFile)(process.execPath, [
    resolve(import.meta.dirname, '../dist/main.js'),
    'auth',
    '--quick',
    '--json',
    file
  ])
  const { metrics, versions } = JSON.parse(await readFile(file, 'utf8'))
  t.strictSame(Object.keys(metrics), [
    'warm_vs_bare',
    'unique_vs_fastify_jwt',
    'apikey_cached_p99_ms',
    'flood_valid_p99_ms',
    'flood_valid_401',
    'audit_async_events_per_s'
  ])
  for (const [key, value] of Object.entries(metrics)) {
    t.ok(Number.isFinite(value), key)
    t.match(stdout, new RegExp(`${key} .*goal `))
  }
  t.match(versions, { '@fastify/jwt': /^10\./ })
  t.ok(metrics.warm_vs_bare > 0, `warm_vs_bare ${metrics.warm_vs_bare}`)
})
