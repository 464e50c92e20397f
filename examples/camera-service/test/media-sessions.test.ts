import { ANONYMOUS, type Principal } from '@marty/core'
import type { RuntimePath } from '@marty/camera-service/mediamtx/client.js'
import { MediaMtxUnavailable } from '@marty/camera-service/mediamtx/errors.js'
import { MediaSessions } from '@marty/camera-service/mediamtx/media-sessions.js'
import type { MediaAuthRequest } from '@marty/camera-service/mediamtx/stream-auth.js'
import type { FastifyBaseLogger } from 'fastify'
import t from 'tap'

// A media server whose answers are chosen here. What the real one does is in media-sessions-live.test.ts.
const quiet = { info () {}, warn () {}, error () {} } as unknown as FastifyBaseLogger
const person = (id: string): Principal => ({ ...ANONYMOUS, id, kind: 'user' })
const asked = (id: string | null, protocol = 'rtsp'): MediaAuthRequest =>
  ({ ip: '', user: '', password: '', token: '', action: 'read', path: 'cs/camera0', protocol, id, query: '' })
const running = (...ids: string[]): ReadonlyMap<string, RuntimePath> =>
  new Map([['camera0', { readers: ids.map(id => ({ type: 'rtspSession', id })) } as unknown as RuntimePath]])

interface Stage {
  readonly sessions: MediaSessions
  /** Sessions the media server has. */
  readonly there: Set<string>
  readonly kicks: string[]
  readonly over: Set<Principal>
  readonly ended: Principal[]
  away: boolean
  unsure: boolean
  now: number
}

function stage (holders: Principal[] = []): Stage {
  const made = {
    there: new Set<string>(),
    kicks: [] as string[],
    over: new Set<Principal>(),
    ended: [] as Principal[],
    away: false,
    unsure: false,
    now: 0
  }
  const sessions = new MediaSessions({
    client: {
      async kick (kind, id) {
        if (made.away) throw new MediaMtxUnavailable()
        made.kicks.push(`${kind} ${id}`)
        return (kind === 'rtspsessions' || !kind.startsWith('rtsp')) && made.there.delete(id)
      }
    },
    mayWatch: principal => {
      if (made.unsure) throw new Error('the store does not answer')
      return !made.over.has(principal)
    },
    holders: () => holders,
    onEnded: principal => { made.ended.push(principal) },
    log: quiet,
    now: () => made.now
  })
  return Object.assign(made, { sessions })
}

t.test('sessions end with their credential, each in the list of its protocol; other sessions stay', async t => {
  const now = stage()
  const [alice, bob] = [person('alice'), person('bob')]
  const kinds = {
    rtsp: ['rtspsessions', 'rtspssessions'],
    hls: ['hlssessions'],
    webrtc: ['webrtcsessions'],
    rtmp: ['rtmpconns', 'rtmpsconns'],
    srt: ['srtconns'],
    moq: ['moqsessions']
  }
  for (const protocol of Object.keys(kinds)) {
    now.there.add(protocol)
    t.equal(now.sessions.add(asked(protocol, protocol), alice), true)
  }
  now.there.add('b')
  now.sessions.add(asked('b'), bob)
  await now.sessions.check()
  t.same(now.kicks, [])
  now.over.add(alice)
  await now.sessions.check()
  t.same(now.kicks.sort(), Object.entries(kinds).flatMap(([id, all]) => all.map(kind => `${kind} ${id}`)).sort())
  t.same([...now.there], ['b'])
  t.same(now.ended, [alice])
  t.equal(now.sessions.size, 1)
})

t.test('sessions to end are kept while MediaMTX does not respond, and ended when it responds again', async t => {
  const now = stage()
  const alice = person('alice')
  for (let i = 0; i < 200; i++) {
    now.there.add(`s${i}`)
    now.sessions.add(asked(`s${i}`), alice)
  }
  now.away = true
  now.sessions.endAll('alice')
  await now.sessions.check()
  t.equal(now.there.size, 200)
  now.away = false
  await now.sessions.check()
  t.equal(now.there.size, 0, 'two hundred sessions of one person')
  t.equal(now.sessions.size, 0)
})

t.test('a session that starts after its caller lost access is ended', async t => {
  const now = stage()
  now.sessions.add(asked('late'), person('alice'))
  now.sessions.endAll('alice')
  await now.sessions.check()
  now.sessions.observe(running())
  t.equal(now.sessions.size, 1, 'not found, and not given up')
  now.there.add('late')
  await now.sessions.check()
  t.same([...now.there], [])
  t.equal(now.sessions.size, 0)
})

t.test('sessions that have ended are dropped, but not before they could have started', async t => {
  const now = stage()
  for (const id of ['gone', 'reading']) now.sessions.add(asked(id), person('alice'))
  now.sessions.observe(running('reading'))
  t.equal(now.sessions.size, 2, 'it may be about to begin')
  now.now = 20_000
  now.sessions.observe(null)
  t.equal(now.sessions.size, 2, 'a media server that does not answer tells nothing')
  now.sessions.observe(running('reading'))
  t.equal(now.sessions.size, 1)
})

t.test('an id that is used again after a restart of MediaMTX belongs to its latest caller', async t => {
  const now = stage()
  const [alice, bob] = [person('alice'), person('bob')]
  now.sessions.add(asked('same'), alice)
  now.away = true
  now.over.add(alice)
  await now.sessions.check()
  now.away = false
  now.there.add('same')
  now.sessions.add(asked('same'), bob)
  await now.sessions.check()
  t.same([...now.there], ['same'], 'the new reader is not ended for the old one')
  now.over.add(bob)
  await now.sessions.check()
  t.same([...now.there], [])
})

t.test('a store that does not respond ends no session; holders of stream URLs are checked too', async t => {
  const carol = person('carol')
  const now = stage([carol])
  now.there.add('a')
  now.sessions.add(asked('a'), person('alice'))
  now.unsure = true
  await now.sessions.check()
  t.same(now.ended, [])
  t.equal(now.there.size, 1)
  now.unsure = false
  now.over.add(carol)
  await now.sessions.check()
  t.same(now.ended, [carol])
})

t.test('requests that start no session are not tracked; a session that could not be ended later is refused', async t => {
  const now = stage()
  const alice = person('alice')
  for (const id of [null, '']) t.equal(now.sessions.add(asked(id, 'hls'), alice), true)
  for (const protocol of ['toString', 'new', '']) t.equal(now.sessions.add(asked('x', protocol), alice), false, 'it could not be ended')
  t.equal(now.sessions.size, 0)
  for (let i = 0; i < 2_000; i++) now.sessions.add(asked(`alice ${i}`), alice)
  t.equal(now.sessions.add(asked('one more'), alice), false)
  t.equal(now.sessions.add(asked('alice 0'), alice), true, 'one that is known may ask again')
  t.equal(now.sessions.add(asked('another'), person('bob')), true, 'others are not kept out')
  for (let i = 0; i < 20_000; i++) now.sessions.add(asked(`crowd ${i}`), person(`crowd ${i}`))
  t.equal(now.sessions.size, 20_000)
  t.equal(now.sessions.add(asked('too late'), person('too late')), false)
  now.now = 20_000
  now.sessions.observe(running())
  t.equal(now.sessions.size, 0)
  t.equal(now.sessions.add(asked('one more'), alice), true, 'places are given back')
})
