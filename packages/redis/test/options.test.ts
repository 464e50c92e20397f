import t from 'tap'
import { openRedis, RedisOptionInvalid, type RedisOptions } from '@marty/redis'

const refused: Array<[string, unknown]> = [
  ['options', null],
  ['hots', { hots: 'localhost' }],
  ['host', { host: '' }],
  ['port', { port: '6379' }],
  ['port', { port: 70_000 }],
  ['db', { db: -1 }],
  ['password', { password: 1 }],
  ['username', { username: '' }],
  ['tls', { tls: false }],
  ['commandTimeoutMs', { commandTimeoutMs: 0 }],
  ['commandTimeoutMs', { commandTimeoutMs: Infinity }],
  ['connectTimeoutMs', { connectTimeoutMs: 1.5 }],
  ['reconnectMaxDelayMs', { reconnectMaxDelayMs: 1 }],
  ['url', { url: 'localhost' }],
  ['url', { url: 'http://user:hunter2@localhost' }],
  ['url', { url: 'redis://:hunter2@localhost/name' }],
  ['url', { url: 'redis://:hunter2@localhost/0?db=hunter2' }],
  ['url', { url: 'redis://:hunter2%zz@localhost' }],
  ['url', { url: 6379 }],
  ['password', { url: 'redis://localhost', password: 'hunter2' }],
  ['sentinels', { sentinels: [], name: 'main' }],
  ['name', { sentinels: [{ host: 'a', port: 1 }] }],
  ['sentinels[0].port', { sentinels: [{ host: 'a' }], name: 'main' }],
  ['cluster', { cluster: 'a:1' }],
  ['cluster[1].host', { cluster: [{ host: 'a', port: 1 }, { port: 1 }] }],
  ['cluster[0]', { cluster: ['a:1'] }],
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
