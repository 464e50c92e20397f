import { StreamAuthority, type MediaAuthRequest } from '@marty/camera-service/mediamtx/stream-auth.js'
import { ANONYMOUS, type Principal } from '@marty/core'
import t from 'tap'

const holder = (id: string): Principal => ({ ...ANONYMOUS, id, kind: 'user' })
const ask = (over: Partial<MediaAuthRequest>): MediaAuthRequest => ({
  ip: '127.0.0.1', user: '', password: '', token: '', action: 'read', path: 'cs/camera0', protocol: 'rtsp', id: null, query: '', ...over
})

t.test('no access without a credential, with an unknown credential, or for an unknown action', async t => {
  const authority = new StreamAuthority()
  for (const action of ['publish', 'read', 'playback', 'api', 'metrics', 'pprof', '', 'READ']) {
    t.equal(authority.decide(ask({ action })).allowed, false, action)
    t.equal(authority.decide(ask({ action, token: 'x'.repeat(43) })).allowed, false, action)
  }
  const { controllerSecret } = authority
  for (const action of ['publish', 'read', 'playback', 'pprof']) {
    t.equal(authority.decide(ask({ action, token: controllerSecret })).allowed, false, `the controller does not ${action}`)
  }
  t.equal(authority.decide(ask({ action: 'api', token: controllerSecret, path: '' })).allowed, true)
})

t.test('a read token grants its own path, as password, bearer token or query, until it expires or is revoked', async t => {
  let now = 1_000_000
  const authority = new StreamAuthority(() => now)
  const { token, expiresAt } = authority.grantRead('cs/camera0', holder('alice'), 5000)
  t.equal(expiresAt, now + 5000)
  t.equal(authority.decide(ask({ password: token })).allowed, true)
  t.equal(authority.decide(ask({ token })).allowed, true)
  t.equal(authority.decide(ask({ query: `token=${token}`, protocol: 'hls' })).allowed, true)
  t.equal(authority.decide(ask({ token, path: 'cs/camera1' })).allowed, false)
  t.equal(authority.decide(ask({ token, path: 'cs/camera0/' })).allowed, false)
  t.equal(authority.decide(ask({ token, action: 'publish' })).allowed, false)
  t.equal(authority.decide(ask({ token: token.slice(0, -1) })).allowed, false)
  now += 5000
  t.equal(authority.decide(ask({ token })).allowed, false)

  const other = authority.grantRead('cs/camera0', holder('bob'), 5000)
  authority.grantRead('cs/camera1', holder('alice'), 5000)
  t.equal(authority.revokeReads(({ id }) => id === 'bob'), 1)
  t.equal(authority.decide(ask({ token: other.token })).allowed, false)
  t.same([...authority.holders()].map(({ id }) => id), ['alice'], 'of those whose grants have not expired')
  t.equal(authority.revokeReads(() => false), 0)
})

t.test('a decision names the holder of the read grant; the grant of the service has none and survives sign-outs', async t => {
  const authority = new StreamAuthority()
  const alice = holder('alice')
  t.equal(authority.decide(ask({ token: authority.grantRead('cs/camera0', alice, 5000).token })).reader, alice)
  const own = authority.grantRead('cs/camera0', null, 5000)
  t.equal(authority.revokeReads(() => true), 1)
  t.match(authority.decide(ask({ token: own.token })), { allowed: true, reader: undefined })
})

t.test('a publish key is replaced by the next one and grants no reading', async t => {
  let now = 0
  const authority = new StreamAuthority(() => now)
  const first = authority.grantPublish('cs/camera0', 1000)
  const second = authority.grantPublish('cs/camera0', 1000)
  t.equal(authority.decide(ask({ action: 'publish', password: first.token })).allowed, false)
  t.equal(authority.decide(ask({ action: 'publish', password: second.token })).allowed, true)
  t.equal(authority.decide(ask({ action: 'publish', password: second.token, path: 'cs/camera1' })).allowed, false)
  t.equal(authority.decide(ask({ action: 'read', password: second.token })).allowed, false)
  now = 1000
  t.equal(authority.decide(ask({ action: 'publish', password: second.token })).allowed, false)
})

t.test('the number of grants is limited', async t => {
  const authority = new StreamAuthority()
  const first = authority.grantRead('cs/camera0', holder('alice'), 60_000)
  for (let i = 0; i < 10_001; i++) authority.grantRead('cs/camera0', holder('mallory'), 60_000)
  t.equal(authority.decide(ask({ token: first.token })).allowed, false, 'the oldest is forgotten')
})
