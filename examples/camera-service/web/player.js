import { openWhep, WhepError } from './whep.js'

/**
 * What the viewer sees. `live` only while frames advance.
 * @typedef {'off' | 'connecting' | 'live' | 'stalled' | 'no picture'} PictureState
 */

/** Without a new frame for this long the picture is old. */
const STALLED_AFTER_MS = 3000
/** A picture that has been old for this long, or has not come at all, is asked for again. */
const GIVE_UP_AFTER_MS = 10_000
const CHECK_EVERY_MS = 500
const BACKOFF_MIN_MS = 1000
const BACKOFF_MAX_MS = 30_000

/**
 * Plays one stream into a video element and keeps trying until it is stopped.
 *
 * Event `change`: `state`, `reason`, `lastFrameAt` or the picture's size are different.
 */
export class Player extends EventTarget {
  /** @type {PictureState} */
  state = 'off'
  /** Why there is no picture; empty when there is one. */
  reason = ''
  /** When the last frame was shown, in milliseconds since the epoch; null before the first. */
  /** @type {number | null} */
  lastFrameAt = null

  #video
  #getUrl
  /** Makes answers that come after `stop` or a restart harmless. */
  #attempt = 0
  #failures = 0
  #frames = 0
  #waitingSince = 0
  /** @type {import('./whep.js').WhepSession | null} */
  #session = null
  /** @type {number | undefined} */
  #retryTimer
  /** @type {number | undefined} */
  #checkTimer

  /**
   * @param {HTMLVideoElement} video
   * @param {() => Promise<string>} getUrl a fresh WHEP URL; called for every try, because its token is short-lived
   */
  constructor (video, getUrl) {
    super()
    this.#video = video
    this.#getUrl = getUrl
    this.#countFrames()
    // The browser draws no frames while the page is hidden: start measuring again when it is shown.
    document.addEventListener('visibilitychange', () => { this.#waitingSince = Date.now() })
  }

  start () {
    if (this.state !== 'off') return
    this.#failures = 0
    void this.#connect()
  }

  stop () {
    this.#close()
    this.lastFrameAt = null
    this.#become('off', '')
  }

  /** Does not wait for the next try. */
  retryNow () {
    if (this.state !== 'no picture') return
    this.#failures = 0
    void this.#connect()
  }

  async #connect () {
    this.#close()
    const attempt = this.#attempt
    // What was said about the last failure stays in view until this try has gone further.
    if (this.state !== 'no picture') this.#become('connecting', '')
    try {
      const url = await this.#getUrl()
      if (attempt !== this.#attempt) return
      const session = await openWhep(url, () => {
        if (attempt === this.#attempt) this.#fail('The connection to the media server was lost.')
      })
      if (attempt !== this.#attempt) {
        session.close()
        return
      }
      this.#session = session
      this.#frames = 0
      this.#waitingSince = Date.now()
      this.#become('connecting', '')
      this.#video.srcObject = session.stream
      this.#video.play().catch(() => { /* the check below says when nothing plays */ })
      this.#checkTimer = setInterval(() => this.#check(), CHECK_EVERY_MS)
    } catch (error) {
      if (attempt === this.#attempt) this.#fail(...reasonOf(error))
    }
  }

  #check () {
    if (this.#video.requestVideoFrameCallback === undefined) {
      const { totalVideoFrames } = this.#video.getVideoPlaybackQuality()
      if (totalVideoFrames !== this.#frames) this.#onFrame(totalVideoFrames)
    }
    if (document.hidden) return
    const since = Math.max(this.lastFrameAt ?? 0, this.#waitingSince)
    const waited = Date.now() - since
    if (waited >= GIVE_UP_AFTER_MS) {
      this.#fail(this.state === 'stalled' ? 'The picture has stopped.' : 'Connected, but no picture arrives.')
    } else if (waited >= STALLED_AFTER_MS && this.state === 'live') {
      this.#become('stalled', 'The picture has stopped.')
    }
  }

  #countFrames () {
    const video = this.#video
    if (video.requestVideoFrameCallback === undefined) return
    const next = () => {
      video.requestVideoFrameCallback(() => {
        next()
        if (this.#session !== null) this.#onFrame(this.#frames + 1)
      })
    }
    next()
  }

  /** @param {number} count */
  #onFrame (count) {
    this.#frames = count
    this.lastFrameAt = Date.now()
    // The first frame only proves a key frame; two prove that the picture moves.
    if (count < 2) return
    this.#failures = 0
    this.#become('live', '')
  }

  /**
   * @param {string} reason
   * @param {number} [waitMs] at least this long until the next try
   */
  #fail (reason, waitMs = 0) {
    this.#close()
    this.#become('no picture', reason)
    const backoff = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this.#failures++)
    const jittered = backoff * (0.75 + Math.random() / 2)
    this.#retryTimer = setTimeout(() => { void this.#connect() }, Math.max(jittered, waitMs))
  }

  #close () {
    this.#attempt++
    clearTimeout(this.#retryTimer)
    clearInterval(this.#checkTimer)
    this.#session?.close()
    this.#session = null
    this.#video.srcObject = null
  }

  /**
   * @param {PictureState} state
   * @param {string} reason
   */
  #become (state, reason) {
    if (this.state === state && this.reason === reason) return
    this.state = state
    this.reason = reason
    this.dispatchEvent(new CustomEvent('change'))
  }
}

/**
 * @param {unknown} error
 * @returns {[string, number?]}
 */
function reasonOf (error) {
  if (error instanceof WhepError) {
    switch (error.status) {
      case 0: return ['The media server cannot be reached from this browser.']
      case 401: case 403: return ['The media server did not accept the stream token.']
      case 404: return ['The camera sends no video to the media server.']
      default: return [`The media server refused the connection (${error.status}).`]
    }
  }
  const { message, retryAfterMs } = /** @type {{ message?: string, retryAfterMs?: number | null }} */ (error)
  return [message ?? 'The stream could not be opened.', retryAfterMs ?? 0]
}
