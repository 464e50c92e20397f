import { SingleFlight, type Principal } from '@marty/core'
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

interface MediaSession {
  readonly id: string
  readonly protocol: string
  readonly path: string
  readonly principal: Principal
  readonly since: number
  isEnding: boolean
}

/** Session lists of the Control API by the protocol name in authentication requests, without TLS and with TLS. */
const SESSION_LISTS: Readonly<Record<string, readonly string[]>> = {
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
 * Maximum numbers of sessions: of one principal, so that no principal uses up the total, and in total. An RTSP reader
 * needs two sessions.
 */
const MAX_SESSIONS_PER_PRINCIPAL = 2_000
const MAX_SESSIONS = 20_000
const CONCURRENT_KICKS = 8

/**
 * Tracks the readers' sessions at the media server and the caller of each. MediaMTX checks the credential only once, at
 * the start of a session (its issue 4300). When the credential ends, the session must be ended over the Control API.
 */
export class MediaSessions {
  readonly #options: MediaSessionsOptions
  readonly #now: () => number
  readonly #sessions = new Map<string, MediaSession>()
  /** How many sessions each principal has. */
  readonly #counts = new Map<string, number>()
  readonly #checks = new SingleFlight(() => this.#checkAll())
  #isStoreSilent = false
  #timer: NodeJS.Timeout | undefined

  constructor (options: MediaSessionsOptions) {
    this.#options = options
    this.#now = options.now ?? performance.now.bind(performance)
  }

  get size (): number {
    return this.#sessions.size
  }

  start (): void {
    this.#timer = setInterval(() => { void this.check() }, CHECK_MS)
    this.#timer.unref()
  }

  stop (): void {
    clearInterval(this.#timer)
  }

  /** Records a session before it starts. False if the service could not end it later: then it must not start. */
  add ({ id, path, protocol }: MediaAuthRequest, principal: Principal): boolean {
    // Without an id, no session starts: HLS sends such a request before it serves its page.
    if (id === null || id === '') return true
    if (!Object.hasOwn(SESSION_LISTS, protocol)) return false
    const isFull = this.size >= MAX_SESSIONS || this.#countOf(principal) >= MAX_SESSIONS_PER_PRINCIPAL
    if (isFull && !this.#sessions.has(id)) return false
    this.#remove(id)
    this.#sessions.set(id, { id, protocol, path, principal, since: this.#now(), isEnding: false })
    this.#counts.set(principal.id, this.#countOf(principal) + 1)
    return true
  }

  /** Ends every session of a principal, for example when it signs out. */
  endAll (principalId: string): void {
    this.#endWhere(principal => principal.id === principalId)
    void this.check()
  }

  /** Drops sessions that are no longer among the readers of the media server's paths (null: paths not known). */
  observe (paths: ReadonlyMap<string, RuntimePath> | null): void {
    if (paths === null) return
    const reading = new Set([...paths.values()].flatMap(path => path.readers.map(reader => reader.id)))
    for (const [id, { since }] of this.#sessions) {
      if (!reading.has(id) && this.#now() - since >= SETTLED_MS) this.#remove(id)
    }
  }

  /** Checks every caller once and ends the sessions of those that may no longer watch. One check runs at a time. */
  check (): Promise<void> {
    return this.#checks.join()
  }

  async #checkAll (): Promise<void> {
    const callers = new Set(this.#options.holders())
    for (const { principal, isEnding } of this.#sessions.values()) if (!isEnding) callers.add(principal)
    const results = await Promise.all([...callers].map(caller => this.#checkCaller(caller)))
    const failures = results.filter(failure => failure !== null)
    // While a store does not respond, no session is ended because of it. Sessions still end when a credential expires.
    if (failures.length > 0 && !this.#isStoreSilent) {
      this.#options.log.warn({ err: failures[0] }, 'cannot check whether readers may still watch; trying again')
    }
    this.#isStoreSilent = failures.length > 0
    await this.#endSessions()
  }

  /** Resolves with the error if the caller could not be checked, otherwise with null. */
  async #checkCaller (caller: Principal): Promise<unknown> {
    const { mayWatch, onEnded } = this.#options
    try {
      if (await mayWatch(caller)) return null
    } catch (error) {
      return error
    }
    onEnded(caller)
    this.#endWhere(principal => principal === caller)
    return null
  }

  /** Marks sessions; the next check ends them. */
  #endWhere (matches: (principal: Principal) => boolean): void {
    for (const session of this.#sessions.values()) if (matches(session.principal)) session.isEnding = true
  }

  async #endSessions (): Promise<void> {
    const ending = [...this.#sessions.values()].filter(session => session.isEnding)
    for (let at = 0; at < ending.length; at += CONCURRENT_KICKS) {
      const results = await Promise.all(ending.slice(at, at + CONCURRENT_KICKS).map(session => this.#kick(session)))
      // The media server does not respond: the next check tries again, until it is back or has lost the sessions.
      if (results.includes('unavailable')) return
    }
  }

  /** Ends a session. If it is not found, tries again later: it may be about to start. Only `observe` drops it. */
  async #kick (session: MediaSession): Promise<'done' | 'unavailable'> {
    const { client, log } = this.#options
    const { id, protocol, path, principal } = session
    try {
      const found = await Promise.all(SESSION_LISTS[protocol]!.map(async list => await client.kick(list, id)))
      if (!found.includes(true)) return 'done'
      if (this.#sessions.get(id) === session) this.#remove(id)
      log.info({ path, protocol, principal: principal.id }, 'media session ended: its reader may no longer watch')
    } catch (error) {
      if (error instanceof MediaMtxUnavailable) return 'unavailable'
      log.error({ err: error, path, protocol }, 'a media session could not be ended; trying again')
    }
    return 'done'
  }

  #remove (id: string): void {
    const session = this.#sessions.get(id)
    if (session === undefined) return
    this.#sessions.delete(id)
    const left = this.#countOf(session.principal) - 1
    if (left === 0) this.#counts.delete(session.principal.id)
    else this.#counts.set(session.principal.id, left)
  }

  #countOf (principal: Principal): number {
    return this.#counts.get(principal.id) ?? 0
  }
}
