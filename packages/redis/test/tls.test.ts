import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import t, { type Test } from 'tap'
import { openRedis, type RedisConnection, type RedisOptions } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'
import { type Certificate, createAuthority } from '@marty/testing/certificates'
import { clusterArgs } from '@marty/testing/redis-topology'

t.test('TLS', async t => {
  const [authority, stranger] = [createAuthority(), createAuthority()]
  t.teardown(() => {
    authority.remove()
    stranger.remove()
  })
  const [server, elsewhere, client] = [
    authority.issue(['subjectAltName = IP:127.0.0.1']),
    authority.issue(['subjectAltName = DNS:redis.example']),
    authority.issue(['subjectAltName = DNS:client'])
  ]
  const open = await tlsServer(t, server, authority, 'no')
  const strict = await tlsServer(t, server, authority, 'yes')
  const misnamed = await tlsServer(t, elsewhere, authority, 'no')

  t.test('what is wrong is told, and no command gets through', async t => {
    const refused: ReadonlyArray<readonly [string, RedisOptions, RegExp]> = [
      ['an authority nobody vouches for', { url: `rediss://127.0.0.1:${open}` }, /certificate/],
      ['another authority', { url: `rediss://127.0.0.1:${open}`, tls: { ca: stranger.cert } }, /certificate/],
      [
        'another host name',
        { url: `rediss://127.0.0.1:${misnamed}`, tls: { ca: authority.cert } },
        /does not match certificate's altnames: .*127\.0\.0\.1/
      ],
      [
        'no client certificate',
        { url: `rediss://127.0.0.1:${strict}`, tls: { ca: authority.cert } },
        /last error: TLS: tlsv13 alert certificate required$/
      ],
      [
        'a client certificate of another authority',
        {
          url: `rediss://127.0.0.1:${strict}`,
          tls: { ca: authority.cert, ...pair(stranger.issue(['subjectAltName = DNS:client'])) }
        },
        /unknown ca/
      ],
      ['plain TCP', { url: `redis://127.0.0.1:${open}` }, /was not ready/]
    ]
    await Promise.all(
      refused.map(async ([what, options, message]) => {
        const redis = connect(t, options)
        await t.rejects(redis.ready(700), { code: 'MARTY_REDIS_UNAVAILABLE', message }, what)
        await t.rejects(redis.client.get('k'), Error, what)
        t.match(redis.health(), { status: 'unhealthy' }, what)
      })
    )
  })

  t.test('certificates that cannot be read stop the start', async t => {
    for (const tls of [
      { cert: 'nonsense' },
      { key: 'nonsense' },
      { ...pair(client), key: server.key },
      { minVersion: 'TLSv9' }
    ]) {
      t.throws(() => openRedis({ port: open, tls } as RedisOptions), {
        code: 'MARTY_REDIS_OPT_INVALID',
        field: 'tls',
        message: /cannot be used: /
      })
    }
  })

  t.test('the own authority, a host name of choice, a client certificate', async t => {
    await use(connect(t, { url: `rediss://127.0.0.1:${open}`, tls: { ca: authority.cert } }))
    await use(
      connect(t, { host: '127.0.0.1', port: misnamed, tls: { ca: authority.cert, servername: 'redis.example' } })
    )
    await use(connect(t, { host: '127.0.0.1', port: strict, tls: { ca: authority.cert, ...pair(client) } }))
  })

  t.test('a cluster, and the slots it is asked for', async t => {
    const port = await freePort()
    const node = await startRedis(await freePort(), [
      ...(await clusterArgs()),
      ...tlsArgs(port, server, authority, 'yes'),
      '--tls-cluster',
      'yes',
      '--cluster-announce-ip',
      '127.0.0.1'
    ])
    t.teardown(() => node.stop())
    const tls = { ca: authority.cert, ...pair(client) }
    const setup = connect(t, { port, tls, commandTimeoutMs: 1_000 })
    await setup.ready(5_000)
    await setup.client.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
    const wrong = connect(t, {
      cluster: [{ host: '127.0.0.1', port }],
      tls: { ca: stranger.cert },
      reconnectMaxDelayMs: 20
    })
    await t.rejects(wrong.ready(700), { message: /certificate/ })
    await use(connect(t, { cluster: [{ host: '127.0.0.1', port }], tls }))
  })

  t.test('sentinels with users of their own, and the master they name', async t => {
    const folder = mkdtempSync(join(tmpdir(), 'marty-sentinel-'))
    t.teardown(() => {
      rmSync(folder, { recursive: true, force: true })
    })
    const config = join(folder, 'sentinel.conf')
    writeFileSync(
      config,
      `sentinel monitor main 127.0.0.1 ${open} 1\nuser watcher on >watch-this ~* &* +@all\nuser default off\n`
    )
    const port = await freePort()
    const sentinel = await startRedis(
      await freePort(),
      ['--sentinel', '--tls-replication', 'yes', ...tlsArgs(port, server, authority, 'no')],
      config
    )
    t.teardown(() => sentinel.stop())
    const options = {
      sentinels: [{ host: '127.0.0.1', port }],
      name: 'main',
      tls: { ca: authority.cert },
      sentinelUsername: 'watcher'
    }
    await use(connect(t, { ...options, sentinelPassword: 'watch-this' }))
    const wrong = connect(t, { ...options, sentinelPassword: 'hunter2' })
    await t.rejects(wrong.ready(500), { message: /WRONGPASS/ })
    t.notMatch(inspect([wrong, wrong.health()], { depth: 9, showHidden: true }), 'hunter2')
    const stranded = connect(t, { ...options, tls: { ca: stranger.cert }, sentinelPassword: 'watch-this' })
    await t.rejects(stranded.ready(500), { message: /sentinel 127\.0\.0\.1:\d+ because/ })
  })
})

async function tlsServer (
  t: Test,
  certificate: Certificate,
  authority: Certificate,
  authClients: 'yes' | 'no'
): Promise<number> {
  const port = await freePort()
  const redis = await startRedis(await freePort(), tlsArgs(port, certificate, authority, authClients))
  t.teardown(() => redis.stop())
  return port
}

function tlsArgs (
  port: number,
  { certFile, keyFile }: Certificate,
  authority: Certificate,
  authClients: 'yes' | 'no'
): string[] {
  return [
    '--tls-port',
    String(port),
    '--tls-cert-file',
    certFile,
    '--tls-key-file',
    keyFile,
    '--tls-ca-cert-file',
    authority.certFile,
    '--tls-auth-clients',
    authClients
  ]
}

function pair ({ cert, key }: Certificate): { cert: string; key: string } {
  return { cert, key }
}

function connect (t: Test, options: RedisOptions): RedisConnection {
  const redis = openRedis(options)
  t.teardown(() => redis.close())
  return redis
}

/** Once the cluster has found that all its slots are held, which takes it a moment. */
async function use (redis: RedisConnection): Promise<void> {
  await redis.ready(5_000)
  await until(
    () =>
      redis.client.set('k', 'v').then(
        reply => reply === 'OK',
        () => false
      ),
    'a command'
  )
}
