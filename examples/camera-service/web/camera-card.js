import { element, setText } from './element.js'
import { Player } from './player.js'
import { announce, toast } from './toasts.js'
import { clock, inWords, when } from './words.js'

/**
 * A camera as the service describes it.
 * @typedef {object} Camera
 * @property {string} device
 * @property {'CONNECTED' | 'DISCONNECTED' | 'ERROR'} status
 * @property {string} name
 * @property {string | null} resolution
 * @property {number | null} fps
 * @property {boolean} recording
 * @property {'OFF' | 'RECORDING' | 'WAITING_FOR_CAMERA'} [recording_status]
 * @property {string} detail
 */

/**
 * @typedef {object} CardContext
 * @property {(method: string, params?: Record<string, unknown>) => Promise<any>} call
 * @property {(permission: string) => boolean} may
 * @property {string} role
 * @property {() => void} onSnapshot
 * @property {() => void} onRecording
 */

const DURATIONS = [['10', '10 s'], ['60', '1 min'], ['300', '5 min'], ['', 'until stopped']]

/** One camera on the wall: its picture, its state, and the buttons for snapshots and recordings. */
export class CameraCard {
  /** @type {Camera} */
  #camera
  #context
  #player
  #announced = ''
  /** When the running recording began, in milliseconds since the epoch; null while there is none or it is not known. */
  /** @type {number | null} */
  #recordingSince = null
  #busy = { snapshot: false, recording: false }
  /** @type {number | undefined} */
  #clockTimer

  #video = element('video', { muted: true, playsinline: true, autoplay: true })
  #message = element('p', { class: 'message' })
  #stage = element('div', { class: 'stage' })
  #badge = element('span', { class: 'badge', 'data-testid': 'camera-state' })
  #recordingBadge = element('span', { class: 'badge rec', hidden: true }, 'Recording')
  #title = element('h2')
  #facts = element('p', { class: 'facts' })
  #note = element('p', { class: 'note' })
  #snapshotButton = element('button', { type: 'button', class: 'button', 'data-testid': 'snapshot-button' }, 'Snapshot')
  #recordButton = element('button', { type: 'button', class: 'button', 'data-testid': 'record-button' })
  #durationSelect = element('select', { class: 'select', 'data-testid': 'record-duration' },
    ...DURATIONS.map(([value, label]) => element('option', { value: value ?? '', selected: value === '60' }, label ?? '')))

  #fullScreenButton = element('button', { type: 'button', class: 'full-screen', title: 'Full screen' })

  /**
   * @param {Camera} camera
   * @param {CardContext} context
   */
  constructor (camera, context) {
    this.#camera = camera
    this.#context = context
    // The attribute alone does not mute a video that a script has made.
    this.#video.muted = true
    this.#stage.append(this.#video, this.#message,
      element('div', { class: 'badges' }, this.#badge, this.#recordingBadge), this.#fullScreenButton)
    this.node = element('article', { class: 'card', 'data-testid': 'camera-card', 'data-device': camera.device },
      this.#stage,
      element('div', { class: 'caption' }, this.#title, this.#facts),
      element('div', { class: 'actions' }, this.#snapshotButton,
        element('span', { class: 'joined' }, this.#recordButton, this.#durationSelect)),
      this.#note)

    this.#player = new Player(this.#video, async () => {
      const answer = await this.#call('get_stream_url')
      return answer.streams.webrtc
    })
    this.#player.addEventListener('change', () => this.#render())
    this.#video.addEventListener('resize', () => this.#render())
    this.#snapshotButton.addEventListener('click', () => { void this.#takeSnapshot() })
    this.#recordButton.addEventListener('click', () => { void this.#toggleRecording() })
    this.#fullScreenButton.addEventListener('click', () => { void this.#toggleFullScreen() })
    if (!document.fullscreenEnabled) this.#fullScreenButton.hidden = true
    this.update(camera)
  }

  /** @param {Camera} camera */
  update (camera) {
    const before = this.#camera
    this.#camera = { ...before, ...camera }
    this.setRecording(this.#camera.recording)
    if (this.#camera.status === 'CONNECTED') {
      this.#player.start()
      if (before.status !== 'CONNECTED') this.#player.retryNow()
    } else {
      this.#player.stop()
    }
    this.#render()
  }

  /** Call it when the connection to the service is restored: the player does not wait for its next attempt. */
  resume () {
    this.#player.retryNow()
  }

  /**
   * @param {boolean} recording
   * @param {number | null} [since] milliseconds since the epoch, when known
   */
  setRecording (recording, since = null) {
    const was = this.#camera.recording && this.#clockTimer !== undefined
    if (recording !== this.#camera.recording) {
      this.#camera = { ...this.#camera, recording, recording_status: recording ? 'RECORDING' : 'OFF' }
    }
    clearInterval(this.#clockTimer)
    this.#clockTimer = undefined
    if (recording) {
      this.#recordingSince = since ?? this.#recordingSince
      this.#clockTimer = setInterval(() => this.#renderRecordButton(), 500)
      if (!was && this.#recordingSince === null) void this.#loadRecordingTime()
    } else {
      this.#recordingSince = null
    }
    this.#render()
  }

  /**
   * The running recording waits for its camera, or goes on.
   * @param {boolean} waiting
   */
  setWaiting (waiting) {
    this.#camera = { ...this.#camera, recording_status: waiting ? 'WAITING_FOR_CAMERA' : 'RECORDING' }
    this.#render()
  }

  /** Stops the player and the timer of this card. The caller removes the node. */
  close () {
    clearInterval(this.#clockTimer)
    this.#player.stop()
  }

  /**
   * @param {string} method
   * @param {Record<string, unknown>} [params]
   */
  #call (method, params = {}) {
    return this.#context.call(method, { device: this.#camera.device, ...params })
  }

  async #toggleFullScreen () {
    if (document.fullscreenElement !== null) {
      await document.exitFullscreen()
      return
    }
    try {
      await this.#stage.requestFullscreen()
    } catch {
      toast('This browser does not allow full screen here.', 'error')
    }
  }

  async #takeSnapshot () {
    await this.#during('snapshot', async () => {
      await this.#call('take_snapshot')
      announce(`Snapshot of ${this.#camera.name} taken`)
      this.#stage.classList.add('flash')
      setTimeout(() => this.#stage.classList.remove('flash'), 350)
      this.#context.onSnapshot()
    }, 'take the snapshot')
  }

  async #toggleRecording () {
    if (this.#camera.recording) {
      await this.#during('recording', async () => {
        await this.#call('stop_recording')
        this.setRecording(false)
        this.#context.onRecording()
      }, 'stop the recording')
      return
    }
    const seconds = this.#durationSelect.value
    await this.#during('recording', async () => {
      await this.#call('start_recording', seconds === '' ? {} : { duration: Number(seconds) })
      this.setRecording(true, Date.now())
    }, 'start the recording')
  }

  /** For a recording that another caller started, or that was running before this page was opened. */
  async #loadRecordingTime () {
    try {
      const { elapsed_time: seconds } = await this.#call('get_camera_status')
      if (typeof seconds !== 'number' || !this.#camera.recording || this.#recordingSince !== null) return
      this.setRecording(true, Date.now() - seconds * 1000)
    } catch { /* the button then shows Stop without a time */ }
  }

  /**
   * @param {'snapshot' | 'recording'} what
   * @param {() => Promise<void>} action
   * @param {string} doing
   */
  async #during (what, action, doing) {
    if (this.#busy[what]) return
    this.#busy[what] = true
    this.#render()
    try {
      await action()
    } catch (error) {
      toast(`${this.#camera.name}: ${inWords(error, doing)}`, 'error')
    } finally {
      this.#busy[what] = false
      this.#render()
    }
  }

  #render () {
    const shown = this.#shownState()
    this.node.dataset['status'] = this.#camera.status
    this.node.dataset['picture'] = this.#player.state
    this.#renderPicture(shown)
    this.#announceState(shown)
    this.#renderActions()
  }

  /** @returns {keyof typeof BADGES} */
  #shownState () {
    switch (this.#camera.status) {
      case 'CONNECTED': return this.#player.state
      case 'ERROR': return 'error'
      default: return 'disconnected'
    }
  }

  /** @param {keyof typeof BADGES} shown */
  #renderPicture (shown) {
    const { name, detail, recording, recording_status: recordingStatus } = this.#camera
    const isWaiting = recordingStatus === 'WAITING_FOR_CAMERA'
    this.#badge.dataset['state'] = shown
    setText(this.#badge, BADGES[shown])
    setText(this.#title, name)
    setText(this.#facts, this.#describe())
    this.#recordingBadge.hidden = !recording
    setText(this.#recordingBadge, isWaiting ? 'Recording, waiting for the camera' : 'Recording')
    this.#video.hidden = !(shown === 'live' || shown === 'stalled')
    this.#video.setAttribute('aria-label', `Live picture of ${name}`)
    setText(this.#message, this.#explain(shown, detail))
    this.#fullScreenButton.setAttribute('aria-label', `${name} in full screen`)
  }

  /**
   * Tells people who do not see the page about a new state, once.
   * @param {keyof typeof BADGES} shown
   */
  #announceState (shown) {
    const text = `${this.#camera.name}: ${BADGES[shown]}`
    if (text !== this.#announced && shown !== 'connecting' && shown !== 'off') announce(text)
    if (shown !== 'connecting') this.#announced = text
  }

  #renderActions () {
    const { name, device, status, recording } = this.#camera
    const isConnected = status === 'CONNECTED'
    const maySnapshot = this.#context.may('snapshot:take')
    const mayRecord = this.#context.may('recording:control')
    this.#snapshotButton.disabled = !maySnapshot || !isConnected || this.#busy.snapshot
    setText(this.#snapshotButton, this.#busy.snapshot ? 'Taking…' : 'Snapshot')
    this.#snapshotButton.setAttribute('aria-label', `Snapshot of ${name}`)
    // A recording of a camera that is not connected can still be stopped.
    this.#recordButton.disabled = !mayRecord || this.#busy.recording || (!isConnected && !recording)
    this.#durationSelect.hidden = recording
    this.#durationSelect.disabled = this.#recordButton.disabled
    this.#durationSelect.setAttribute('aria-label', `How long to record ${name}`)
    this.#renderRecordButton()

    const note = noteFor(maySnapshot, mayRecord, this.#context.role)
    setText(this.#note, note)
    this.#note.hidden = note === ''
    this.#note.id = `note-${device}`
    for (const button of [this.#snapshotButton, this.#recordButton]) {
      const reason = isConnected ? note : 'The camera is not connected'
      button.title = button.disabled ? reason : ''
      if (note === '') button.removeAttribute('aria-describedby')
      else button.setAttribute('aria-describedby', this.#note.id)
    }
  }

  #renderRecordButton () {
    const { recording, name } = this.#camera
    const time = this.#recordingSince === null ? '' : ` ${clock((Date.now() - this.#recordingSince) / 1000)}`
    this.#recordButton.classList.toggle('stop', recording)
    setText(this.#recordButton, recording ? `Stop${time}` : 'Record')
    // Without the running time: a label that changes every second would be read every second.
    this.#recordButton.setAttribute('aria-label', recording ? `Stop recording ${name}` : `Record ${name}`)
  }

  #describe () {
    const { resolution, fps, device } = this.#camera
    const { videoWidth, videoHeight } = this.#video
    const isLive = this.#player.state === 'live' && videoWidth > 0
    const size = isLive ? `${videoWidth}×${videoHeight}` : resolution?.replace('x', '×') ?? null
    const rate = fps === null || fps === undefined ? null : `${Math.round(fps * 100) / 100} fps`
    return [device, size, rate].filter(part => part !== null).join(' · ')
  }

  /**
   * @param {keyof typeof BADGES} shown
   * @param {string} detail
   */
  #explain (shown, detail) {
    const { lastFrameAt, reason } = this.#player
    switch (shown) {
      case 'live': return ''
      case 'off':
      case 'connecting': return 'Waiting for the first picture…'
      case 'stalled': return lastFrameAt === null ? reason : `This picture is from ${when(lastFrameAt)}.`
      case 'no picture': return `${reason} Trying again…`
      default: return detail === '' ? 'The camera is not connected. The picture returns when it is.' : detail
    }
  }
}

const BADGES = /** @type {const} */ ({
  off: 'Off',
  connecting: 'Connecting',
  live: 'Live',
  stalled: 'Stalled',
  'no picture': 'No picture',
  disconnected: 'Disconnected',
  error: 'Error'
})

/**
 * Why the buttons of a card are disabled for this caller; empty when they are not.
 * @param {boolean} maySnapshot
 * @param {boolean} mayRecord
 * @param {string} role
 */
function noteFor (maySnapshot, mayRecord, role) {
  if (maySnapshot && mayRecord) return ''
  const missing = [maySnapshot ? '' : 'take snapshots', mayRecord ? '' : 'record'].filter(action => action !== '')
  return `Your role ${role} does not allow you to ${missing.join(' or to ')}.`
}
