import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, copyFile, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:https'
import { connect as tcp, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { connect as tls } from 'node:tls'
import { promisify } from 'node:util'
import { projectRoot } from '@marty/camera-service/settings/settings.js'
import { readCertificate } from '@marty/camera-service/tls/certificate.js'
import { limitHandshakes } from '@marty/camera-service/tls/handshake-limit.js'
import t from 'tap'
import { selfSigned, type CertificateFiles } from '@marty/testing/certificates'
import { eventually } from '@marty/testing'
import { RpcClient } from './rpc-client.js'
import { processesMentioning, startService, type RunningService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

const run = promisify(execFile)
const folder = await mkdtemp(join(tmpdir(), 'camera-service-tls-'))
const good = selfSigned(folder, 'good')
const DAY_MS = 86_400_000

const start = (files: CertificateFiles, env: Record<string, string> = {}, dontWait = false): Promise<RunningService> =>
  startService({
    env: {
      CAMERA_SERVICE_CAMERAS_TEST_PATTERN: 'never',
      CAMERA_SERVICE_SECURITY_SSL_ENABLED: 'true',
      CAMERA_SERVICE_SECURITY_SSL_CERT_FILE: files.certFile,
      CAMERA_SERVICE_SECURITY_SSL_KEY_FILE: files.keyFile,
      ...env
    },
    dontWait
  })

const tlsHealth = async (service: RunningService): Promise<{ status: string, details: string }> => {
  const response = await fetch(`http://127.0.0.1:${service.ports.HEALTH_PORT}/health/system`)
  return (await response.json() as { components: { tls: { status: string, details: string } } }).components.tls
}

t.test('unusable TLS files stop the start: the error names the setting, the file and the remedy', async t => {
  const rsa = selfSigned(folder, 'rsa', { key: ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'] })
  const other = selfSigned(folder, 'other')
  const encrypted = join(folder, 'encrypted.key')
  await run('openssl', ['pkey', '-in', good.keyFile, '-aes256', '-passout', 'pass:x', '-out', encrypted])
  const nonsense = join(folder, 'nonsense')
  await writeFile(nonsense, 'nonsense')
  const cases: ReadonlyArray<readonly [string, CertificateFiles, RegExp]> = [
    ['a key of another type', { ...good, keyFile: rsa.keyFile }, /key_file: .*rsa\.key is not the key of the first certificate/],
    ['another key of the same type', { ...good, keyFile: other.keyFile }, /key_file: .*other\.key is not the key/],
    ['an encrypted key', { ...good, keyFile: encrypted }, /key_file: .*encrypted\.key is encrypted: store it without a passphrase/],
    ['no key', { ...good, keyFile: nonsense }, /key_file: .*nonsense contains no private key in PEM/],
    ['no certificate', { ...good, certFile: nonsense }, /cert_file: .*nonsense contains no certificate chain in PEM/],
    ['a key for a certificate', { ...good, certFile: good.keyFile }, /cert_file: .*good\.key contains no certificate chain/],
    ['no file', { ...good, certFile: join(folder, 'nowhere') }, /cert_file: .*nowhere cannot be read \(ENOENT\)/],
    ['an empty setting', { ...good, keyFile: '' }, /key_file is empty, but security\.ssl\.enabled is true/]
  ]
  for (const [name, files, message] of cases) t.throws(() => readCertificate(files, 'localhost'), { message }, name)

  const service = await start({ ...good, keyFile: rsa.keyFile }, {}, true)
  t.match(await service.exited, { code: 1 })
  t.match(
    service.output(),
    /security\.ssl\.key_file: .*rsa\.key is not the key of the first certificate in .*good\.pem/
  )
})

t.test('a certificate that clients would refuse is a warning at the start', async t => {
  const readable = { certFile: good.certFile, keyFile: join(folder, 'readable.key') }
  await copyFile(good.keyFile, readable.keyFile)
  await chmod(readable.keyFile, 0o644)
  const cases: ReadonlyArray<readonly [string, CertificateFiles, string, RegExp | null]> = [
    ['a good one', good, 'localhost', null],
    ['by its address', good, '127.0.0.1', null],
    ['expired', selfSigned(folder, 'expired', { from: -3, to: -1 }), 'localhost', /expired on \d{4}-/],
    ['not yet valid', selfSigned(folder, 'early', { from: 1, to: 3 }), 'localhost', /is not valid before/],
    [
      'another name',
      good,
      'cameras.example',
      /is for DNS:localhost, IP Address:127\.0\.0\.1, but clients connect to cameras\.example/
    ],
    ['another address', good, '192.0.2.1', /clients connect to 192\.0\.2\.1/],
    [
      'short RSA',
      selfSigned(folder, 'short', { key: ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:1024'] }),
      'localhost',
      /weak \(RSA of 1024 bits\)/
    ],
    [
      'a curve that no browser knows',
      selfSigned(folder, 'curve', { key: ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:secp256k1'] }),
      'localhost',
      /weak \(ECDSA on secp256k1\)/
    ],
    [
      'for clients only',
      selfSigned(folder, 'client', { extensions: ['extendedKeyUsage=clientAuth'] }),
      'localhost',
      /not for servers/
    ],
    [
      'for servers and clients',
      selfSigned(folder, 'both', { extensions: ['extendedKeyUsage=clientAuth,serverAuth'] }),
      'localhost',
      null
    ],
    ['a key that any user can read', readable, 'localhost', /mode 0644.*chmod 600/]
  ]
  for (const [name, files, host, warning] of cases) {
    const { warnings } = readCertificate(files, host)
    if (warning === null) t.same(warnings, [], name)
    else t.match(warnings, [warning], name)
    t.equal(warnings.length, warning === null ? 0 : 1, name)
  }
  const chain = { ...good, certFile: join(folder, 'chain.pem') }
  await writeFile(chain.certFile, await readFile(good.certFile, 'utf8') + await readFile(join(folder, 'expired.pem'), 'utf8'))
  const { warnings, expiresAt } = readCertificate(chain, 'localhost')
  t.match(warnings, [/expired on/], 'an issuer in the chain')
  t.ok(expiresAt < Date.now(), 'a chain lasts as long as its shortest certificate')
})

t.test('relative paths start at the project; health reports the days left; only the configured groups are accepted', async t => {
  const service = await start({
    certFile: relative(projectRoot, good.certFile),
    keyFile: relative(projectRoot, good.keyFile)
  })
  t.notMatch(service.output(), 'Warning')
  t.match(await tlsHealth(service), { status: 'degraded', details: /^the certificate is valid for 1 more day; / }, 'two days are not many')
  const handshake = async (groups: string): Promise<boolean> => {
    const client = run('openssl', ['s_client', '-connect', `127.0.0.1:${service.ports.SERVER_PORT}`, '-groups', groups, '-brief'])
    client.child.stdin?.end()
    return await client.then(() => true, () => false)
  }
  for (const group of ['X25519', 'P-256', 'P-384', 'ffdhe8192:X25519']) t.equal(await handshake(group), true, group)
  for (const group of ['ffdhe2048', 'ffdhe8192', 'P-521', 'X448']) t.equal(await handshake(group), false, group)
  await eventually(async () => {
    const { details } = await tlsHealth(service)
    if (!details.endsWith('4 handshakes, 4 failed, 0 refused')) throw new Error(details)
  })
  await service.stop()
})

t.test('SIGHUP reloads the certificate for new connections; open ones stay, and an unusable one changes nothing', async t => {
  const files = { certFile: join(folder, 'served.pem'), keyFile: join(folder, 'served.key') }
  const install = async (from: CertificateFiles): Promise<void> => {
    await copyFile(from.certFile, files.certFile)
    await copyFile(from.keyFile, files.keyFile)
  }
  await install(good)
  const service = await start(files)
  const ca = await readFile(good.certFile)
  const client = await RpcClient.connect(`wss://127.0.0.1:${service.ports.SERVER_PORT}/ws`, { ca })
  const renewed = selfSigned(folder, 'renewed', { to: 90 })
  const both = [ca, await readFile(renewed.certFile)]
  const served = async (): Promise<string> => {
    const socket = tls({ port: service.ports.SERVER_PORT, host: '127.0.0.1', ca: both })
    await once(socket, 'secureConnect')
    const { fingerprint256 } = socket.getPeerCertificate()
    socket.destroy()
    return fingerprint256
  }
  const first = await served()

  await install(renewed)
  service.process.kill('SIGHUP')
  await eventually(async () => { if (await served() === first) throw new Error('still the old certificate') })
  await client.call('authenticate', { auth_token: await service.token('viewer') })
  t.equal((await client.call('get_camera_list')).total, 0, 'an open connection stays')
  t.match(await tlsHealth(service), { status: 'healthy', details: /valid for 89 more days/ })

  const second = await served()
  await copyFile(good.keyFile, files.keyFile)
  service.process.kill('SIGHUP')
  await eventually(() => { if (!service.output().includes('the new certificate cannot be used')) throw new Error('not logged') })
  t.equal(await served(), second)
  t.match(service.output(), /is not the key of the first certificate/)
  client.close()
  t.ok((await processesMentioning(service.dataDir)).length > 0, 'MediaMTX runs')
  await service.stop()
  t.same(await processesMentioning(service.dataDir), [], 'and ends with the service')
})

t.test('handshakes are limited by address and time; other addresses are served', async t => {
  const server = createServer(
    { cert: await readFile(good.certFile), key: await readFile(good.keyFile), handshakeTimeout: 5000 },
    (_request, response) => {
      response.end('served')
    }
  )
  let reported = 0
  const counts = limitHandshakes(server, { perMinute: 600, pending: 8 }, () => { reported++ })
  server.listen(0, '0.0.0.0')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const { port } = server.address() as { port: number }
  const ca = await readFile(good.certFile)
  const isServed = async (localAddress: string): Promise<boolean> => {
    const socket = tls({ socket: tcp({ port, host: '127.0.0.1', localAddress }), ca, servername: 'localhost' })
    socket.end('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    const chunks = await socket.setEncoding('utf8').toArray().catch(() => []) as string[]
    return chunks.join('').endsWith('served')
  }

  const silent: Socket[] = Array.from({ length: 40 }, () =>
    tcp({ port, host: '127.0.0.1', localAddress: '127.0.0.2' }).on('error', () => {})
  )
  await eventually(() => { if (counts.refused !== 32) throw new Error(`${counts.refused} refused`) })
  t.equal(reported, 32)
  t.equal(await isServed('127.0.0.2'), false, 'all of its share is pending')
  t.equal(await isServed('127.0.0.1'), true, 'another address')
  await Promise.all(silent.map(socket => socket.closed ? null : once(socket, 'close')))
  await eventually(() => { if (counts.failed !== 8) throw new Error(`${counts.failed} failed`) })
  await eventually(async () => { if (!await isServed('127.0.0.2')) throw new Error('not served again') })

  let refused = 0
  for (let attempt = 0; attempt < 400 && refused === 0; attempt++) if (!await isServed('127.0.0.3')) refused++
  t.equal(refused, 1, 'finished handshakes count as well')
  t.equal(await isServed('127.0.0.1'), true)
})

t.test('HSTS can be switched off', async t => {
  const lasting = selfSigned(folder, 'lasting', { to: 60 })
  t.ok(readCertificate(lasting, 'localhost').expiresAt > Date.now() + 50 * DAY_MS)
  const ca = await readFile(lasting.certFile)
  for (const hsts of ['true', 'false']) {
    const service = await start(lasting, { CAMERA_SERVICE_ENVIRONMENT: 'production', CAMERA_SERVICE_SECURITY_SSL_HSTS: hsts })
    const [response] = (await once(
      request({ port: service.ports.SERVER_PORT, host: '127.0.0.1', ca }).end(),
      'response'
    )) as [{ headers: Record<string, string>, resume: () => void }]
    response.resume()
    t.equal(response.headers['strict-transport-security'] !== undefined, hsts === 'true', hsts)
    await service.stop()
  }
})

t.test('closing the terminal shuts down the service and its child processes', async t => {
  const { ports, env, dataDir, stop } = await startService({ env: { CAMERA_SERVICE_CAMERAS_TEST_PATTERN: 'always' } })
  await stop()
  // script gives the program a terminal of its own; killed, the kernel hangs that terminal up.
  const terminal = spawn(
    'script',
    ['-qfc', `${process.execPath} ${join(projectRoot, 'examples/camera-service/dist/server.js')}`, '/dev/null'],
    { env: { ...env, CAMERA_SERVICE_DATA_DIR: dataDir }, stdio: ['pipe', 'pipe', 'inherit'] }
  )
  t.teardown(() => { terminal.kill('SIGKILL') })
  let text = ''
  terminal.stdout.setEncoding('utf8').on('data', chunk => { text += chunk })
  await eventually(async () => {
    if (!text.includes('npm run -s token')) throw new Error(`not started:\n${text}`)
    const cameras = await (await fetch(`http://127.0.0.1:${ports.HEALTH_PORT}/health/cameras`)).text()
    if (!cameras.includes('1 of 1 connected')) throw new Error(cameras)
  }, 60_000)
  t.ok((await processesMentioning(dataDir)).length > 0, 'MediaMTX runs')
  terminal.kill('SIGKILL')
  await eventually(async () => {
    const left = [...await processesMentioning(dataDir), ...await processesMentioning(`:${ports.MEDIAMTX_RTSP_PORT}/`)]
    if (left.length > 0) throw new Error('MediaMTX or ffmpeg is still running')
    if (!(await readFile(join(dataDir, 'audit.log'), 'utf8')).includes('service.stop')) throw new Error('the audit log was not closed')
  })
})
