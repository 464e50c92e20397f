import t from 'tap'
import { openRedis, RedisOptionInvalid, type RedisOptions } from '@marty/redis'

const refused: Array<[string, unknown]> = [
  ['options', undefined],
  ['options', null],
  ['options', 'redis://:hunter2@localhost'],
  ['options', []],
  ['hots', { hots: 'localhost' }],
  ['host', { host: '' }],
  ['port', { port: '6379' }],
  ['port', { port: 70_000 }],
  ['db', { db: -1 }],
  ['password', { password: 1 }],
  ['username', { username: '' }],
  ['tls', { tls: false }],
  ['tls', { tls: null }],
  ['tls', { tls: 'hunter2' }],
  ['tls', { tls: [] }],
  ['tls', { tls: { cert: 'nonsense' } }],
  ['tls', { url: 'rediss://localhost', tls: false }],
  ['connectionName', { connectionName: '' }],
  ['commandTimeoutMs', { commandTimeoutMs: 0 }],
  ['commandTimeoutMs', { commandTimeoutMs: Infinity }],
  ['connectTimeoutMs', { connectTimeoutMs: 1.5 }],
  ['reconnectMaxDelayMs', { reconnectMaxDelayMs: 1 }],
  ['url', { url: 'localhost' }],
  ['url', { url: 'http://user:hunter2@localhost' }],
  ['url', { url: 'redis://:hunter2@localhost/name' }],
  ['url', { url: 'redis://:hunter2@localhost/0?db=hunter2' }],
  ['url', { url: 'redis://:hunter2%zz@localhost' }],
  ['url', { url: 'redis://:hunter2@localhost/123456' }],
  ['url', { url: 'redis://:hunter2@localhost/65536' }],
  ['url', { url: 'redis://:hunter2@localhost:0' }],
  ['url', { url: 'redis://:hunter2@localhost#hunter2' }],
  ['url', { url: 'redis:hunter2' }],
  ['url', { url: '' }],
  ['url', { url: null }],
  ['url', { url: 6379 }],
  ['host', { url: 'redis://localhost', host: 'localhost' }],
  ['cluster', { url: 'redis://localhost', cluster: [{ host: 'a', port: 1 }] }],
  ['password', { url: 'redis://localhost', password: 'hunter2' }],
  ['sentinels', { sentinels: [], name: 'main' }],
  ['name', { sentinels: [{ host: 'a', port: 1 }] }],
  ['name', { name: 'main' }],
  ['name', { sentinels: [{ host: 'a', port: 1 }], name: '' }],
  ['port', { sentinels: [{ host: 'a', port: 1 }], name: 'main', port: 6379 }],
  ['sentinelPassword', { sentinelPassword: 'hunter2' }],
  ['sentinelPassword', { sentinels: [{ host: 'a', port: 1 }], name: 'main', sentinelPassword: 1 }],
  ['sentinels[0].port', { sentinels: [{ host: 'a' }], name: 'main' }],
  ['cluster', { cluster: 'a:1' }],
  ['cluster[1].host', { cluster: [{ host: 'a', port: 1 }, { port: 1 }] }],
  ['cluster[0]', { cluster: ['a:1'] }],
  ['cluster[0]', { cluster: [null] }],
  ['cluster[0].port', { cluster: [{ host: 'a', port: 0 }] }],
  ['cluster[0].prot', { cluster: [{ host: 'a', port: 1, prot: 2 }] }],
  ['sentinels', { cluster: [{ host: 'a', port: 1 }], sentinels: [] }],
  ['db', { cluster: [{ host: 'a', port: 1 }], db: 1 }]
]

for (const [field, options] of refused) {
  t.test(`refuses ${field} of ${JSON.stringify(options)?.replaceAll('hunter2', '***')}`, async t => {
    try {
      openRedis(options as RedisOptions)
      t.fail('was accepted')
    } catch (error) {
      if (!(error instanceof RedisOptionInvalid)) throw error
      t.equal(error.code, 'MARTY_REDIS_OPT_INVALID')
      t.equal(error.field, field)
      t.match(error.message, field)
      t.notMatch(error.message, 'hunter2')
    }
  })
}

function refusalOf (options: object): string {
  try {
    openRedis(options as RedisOptions)
    return 'accepted'
  } catch (error) {
    return (error as Error).message
  }
}

t.test('says what is wrong and what to do', async t => {
  const sentinels = [{ host: 'a', port: 1 }]
  const messages: Array<[string | RegExp, object]> = [
    ['"hots" is not known; did you mean "host"?', { hots: 'localhost' }],
    ['"port" must be an integer from 1 to 65535, not 70000', { port: 70_000 }],
    ['"password" must be a non-empty string, not a number', { password: 1 }],
    ['"tls" must be true or the options of tls.connect, not false', { tls: false }],
    [/^"tls" cannot be used: /, { tls: { cert: 'nonsense' } }],
    ['"url" must be redis://[user:password@]host[:port][/db], or rediss: for TLS, not a string of 9 characters', {
      url: 'localhost'
    }],
    ['"url" must begin with redis:// or rediss://', { url: 'http://localhost' }],
    ['"url" names no host', { url: 'redis:///0' }],
    ['"name" is required beside "sentinels"; it must be the name of the master group', { sentinels }],
    [/^"db" does not belong beside "cluster"; known there are cluster, username, /, { cluster: sentinels, db: 0 }],
    [/^"password" does not belong beside "url"; known there are url, tls, /, {
      url: 'redis://localhost', password: 'hunter2'
    }]
  ]
  for (const [message, options] of messages) {
    const refusal = refusalOf(options)
    t.match(refusal, /^redis option /)
    t.match(refusal.slice('redis option '.length), message)
  }
})

t.test('every problem is in one message, and field is the first', async t => {
  try {
    openRedis({ host: '', prot: 6379, db: -1 } as RedisOptions)
    t.fail('was accepted')
  } catch (error) {
    if (!(error instanceof RedisOptionInvalid)) throw error
    const fields = error.message.split('\n').map(line => /^redis option "(\w+)" /.exec(line)?.[1])
    t.strictSame(fields, ['prot', 'host', 'db'])
    t.equal(error.field, 'prot')
  }
})

t.test('an option that is undefined counts as left out, also one of another form', async t => {
  const redis = openRedis({ url: undefined, cluster: undefined, host: '127.0.0.1', port: 1 } as object as RedisOptions)
  await redis.close()
  t.strictSame(redis.health().details.nodes, ['127.0.0.1:1'])
})
