import type { Principal } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import type { MediaMtxClient, RuntimePath } from './client.js'
import { MediaMtxUnavailable } from './errors.js'
import type { MediaAuthRequest } from './stream-auth.js'

export interface MediaSessionsOptions {
  readonly client: Pick<MediaMtxClient, 'kick'>
  /** Whether a caller that was allowed earlier may still watch. Throws when this cannot be checked now. */
  readonly mayWatch: (principal: Principal) => boolean | Promise<boolean>
  /** Callers with stream URLs that have not expired. They are checked too. */
  readonly holders: () => Iterable<Principal>
  /** Called when a caller may no longer watch. It must revoke the caller's stream URLs. */
  readonly onEnded: (principal: Principal) => void
  readonly log: FastifyBaseLogger
  readonly now?: () => number
}

/**
 * Tracks the readers' sessions at the media server and the caller of each. MediaMTX checks the credential only once, at
 * the start of a session (its issue 4300). When the credential ends, the session must be ended over the Control API.
 */
export interface MediaSessions {
  /** Records a session before it starts. False if the service could not end it later: then it must not start. */
  add (request: MediaAuthRequest, principal: Principal): boolean
  /** Ends every session of a principal, for example when it signs out. */
  endAll (principalId: string): void
  /** Drops sessions that are no longer among the readers of the media server's paths (null: paths not known). */
  observe (paths: ReadonlyMap<string, RuntimePath> | null): void
  /** Checks every caller once and ends the sessions of those that may no longer watch. One check runs at a time. */
  check (): Promise<void>
  readonly size: number
  start (): void
  stop (): void
}

interface MediaSession {
  readonly id: string
  readonly protocol: string
  readonly path: string
  readonly principal: Principal
  readonly since: number
  ending: boolean
}

/** Session lists of the Control API by the protocol name in authentication requests, without TLS and with TLS. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  rtsp: ['rtspsessions', 'rtspssessions'],
  webrtc: ['webrtcsessions'],
  hls: ['hlssessions'],
  rtmp: ['rtmpconns', 'rtmpsconns'],
  srt: ['srtconns'],
  moq: ['moqsessions']
}
/** Interval of the checks: the end of a credential is noticed within this time. */
const CHECK_MS = 500
/** An allowed session may not appear in the paths at first: MediaMTX waits up to 10 s for our response. */
const SETTLED_MS = 15_000
/**
 * Maximum number of sessions of one principal, so that no principal uses up the total, and in total. RTSP needs two for
 * each reader.
 */
const MAX_SESSIONS_OF_ONE = 2_000
const MAX_SESSIONS = 20_000
const KICKS_AT_ONCE = 8

export function createMediaSessions (options: MediaSessionsOptions): MediaSessions {
  const { client, mayWatch, holders, onEnded, log, now = performance.now.bind(performance) } = options
  const sessions = new Map<string, MediaSession>()
  const counts = new Map<string, number>()
  let isStoreSilent = false
  let checking: Promise<void> | null = null
  let timer: NodeJS.Timeout | undefined

  function remember (session: MediaSession): void {
    forget(session.id)
    sessions.set(session.id, session)
    counts.set(session.principal.id, countOf(session.principal) + 1)
  }

  function forget (id: string): void {
    const session = sessions.get(id)
    if (session === undefined) return
    sessions.delete(id)
    const left = countOf(session.principal) - 1
    if (left === 0) counts.delete(session.principal.id)
    else counts.set(session.principal.id, left)
  }

  function countOf (principal: Principal): number {
    return counts.get(principal.id) ?? 0
  }

  function end (ends: (principal: Principal) => boolean): void {
    for (const session of sessions.values()) if (ends(session.principal)) session.ending = true
  }

  function check (): Promise<void> {
    checking ??= look().finally(() => { checking = null })
    return checking
  }

  async function look (): Promise<void> {
    const callers = new Set(holders())
    for (const { principal, ending } of sessions.values()) if (!ending) callers.add(principal)
    const failures = (await Promise.all([...callers].map(endIfOver))).filter(failure => failure !== null)
    // While a store does not respond, no session is ended because of it. Sessions still end when a credential expires.
    if (failures.length > 0 && !isStoreSilent) {
      log.warn({ err: failures[0] }, 'cannot check whether readers may still watch; trying again')
    }
    isStoreSilent = failures.length > 0
    const ending = [...sessions.values()].filter(session => session.ending)
    for (let at = 0; at < ending.length; at += KICKS_AT_ONCE) {
      const answers = await Promise.all(ending.slice(at, at + KICKS_AT_ONCE).map(kick))
      // The media server does not respond: the next check tries again, until it is back or has lost the sessions.
      if (answers.includes('unavailable')) return
    }
  }

  /** Resolves with the error if the caller could not be checked, otherwise with null. */
  async function endIfOver (principal: Principal): Promise<unknown> {
    try {
      if (await mayWatch(principal)) return null
    } catch (error) {
      return error
    }
    onEnded(principal)
    end(other => other === principal)
    return null
  }

  /** Ends a session. If it is not found, tries again later: it may be about to start. Only `observe` drops it. */
  async function kick (session: MediaSession): Promise<'done' | 'unavailable'> {
    const { id, protocol, path, principal } = session
    try {
      const found = await Promise.all(KINDS[protocol]!.map(async kind => await client.kick(kind, id)))
      if (!found.includes(true)) return 'done'
      if (sessions.get(id) === session) forget(id)
      log.info({ path, protocol, principal: principal.id }, 'media session ended: its reader may no longer watch')
    } catch (error) {
      if (error instanceof MediaMtxUnavailable) return 'unavailable'
      log.error({ err: error, path, protocol }, 'a media session could not be ended; trying again')
    }
    return 'done'
  }

  return {
    add ({ id, path, protocol }, principal) {
      // Without an id, no session starts: HLS sends such a request before it serves its page.
      if (id === null || id === '') return true
      if (!Object.hasOwn(KINDS, protocol)) return false
      const isFull = sessions.size >= MAX_SESSIONS || countOf(principal) >= MAX_SESSIONS_OF_ONE
      if (isFull && !sessions.has(id)) return false
      remember({ id, protocol, path, principal, since: now(), ending: false })
      return true
    },
    endAll (principalId) {
      end(principal => principal.id === principalId)
      void check()
    },
    observe (paths) {
      if (paths === null) return
      const reading = new Set([...paths.values()].flatMap(path => path.readers.map(reader => reader.id)))
      for (const [id, { since }] of sessions) if (!reading.has(id) && now() - since >= SETTLED_MS) forget(id)
    },
    check,
    get size () { return sessions.size },
    start () {
      timer = setInterval(() => { void check() }, CHECK_MS)
      timer.unref()
    },
    stop () { clearInterval(timer) }
  }
}
