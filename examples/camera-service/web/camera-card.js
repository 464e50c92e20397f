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

/** One camera on the wall: its picture, its state, and what may be done with it. */
export class CameraCard {
  /** @type {Camera} */
  #camera
  #context
  #player
  #spoken = ''
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
    this.#fullScreenButton.addEventListener('click', () => {
      if (document.fullscreenElement === null) this.#stage.requestFullscreen().catch(() => toast('This browser does not allow full screen here.', 'error'))
      else void document.exitFullscreen()
    })
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

  /** The connection to the service is back: what waits for it need not wait longer. */
  resume () {
    this.#player.retryNow()
  }

  /**
   * @param {boolean} recording
   * @param {number | null} [since] milliseconds since the epoch, when known
   */
  setRecording (recording, since = null) {
    const was = this.#camera.recording && this.#clockTimer !== undefined
    if (recording !== this.#camera.recording) this.#camera = { ...this.#camera, recording, recording_status: recording ? 'RECORDING' : 'OFF' }
    clearInterval(this.#clockTimer)
    this.#clockTimer = undefined
    if (recording) {
      this.#recordingSince = since ?? this.#recordingSince
      this.#clockTimer = setInterval(() => this.#renderRecordButton(), 500)
      if (!was && this.#recordingSince === null) void this.#learnRecordingTime()
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

  /** Stops what runs for this card; the node is the caller's to remove. */
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

  /** A recording that somebody else started, or that was running before this page. */
  async #learnRecordingTime () {
    try {
      const { elapsed_time: seconds } = await this.#call('get_camera_status')
      if (typeof seconds === 'number' && this.#camera.recording && this.#recordingSince === null) this.setRecording(true, Date.now() - seconds * 1000)
    } catch { /* the button then says Stop without a time */ }
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
    const { name, device, status, detail } = this.#camera
    const picture = this.#player.state
    const shown = status === 'CONNECTED' ? picture : status === 'ERROR' ? 'error' : 'disconnected'
    this.node.dataset['status'] = status
    this.node.dataset['picture'] = picture
    this.#badge.dataset['state'] = shown
    setText(this.#badge, BADGES[shown])
    setText(this.#title, name)
    setText(this.#facts, this.#describe())
    this.#recordingBadge.hidden = !this.#camera.recording
    setText(this.#recordingBadge, this.#camera.recording_status === 'WAITING_FOR_CAMERA' ? 'Recording, waiting for the camera' : 'Recording')
    this.#video.hidden = !(shown === 'live' || shown === 'stalled')
    this.#video.setAttribute('aria-label', `Live picture of ${name}`)
    setText(this.#message, this.#explain(shown, detail))
    this.#fullScreenButton.setAttribute('aria-label', `${name} in full screen`)

    const said = `${name}: ${BADGES[shown]}`
    if (said !== this.#spoken && shown !== 'connecting' && shown !== 'off') announce(said)
    if (shown !== 'connecting') this.#spoken = said

    const connected = status === 'CONNECTED'
    const maySnapshot = this.#context.may('snapshot:take')
    const mayRecord = this.#context.may('recording:control')
    this.#snapshotButton.disabled = !maySnapshot || !connected || this.#busy.snapshot
    setText(this.#snapshotButton, this.#busy.snapshot ? 'Taking…' : 'Snapshot')
    this.#snapshotButton.setAttribute('aria-label', `Snapshot of ${name}`)
    // A recording of a camera that has vanished may still be stopped.
    this.#recordButton.disabled = !mayRecord || this.#busy.recording || (!connected && !this.#camera.recording)
    this.#durationSelect.hidden = this.#camera.recording
    this.#durationSelect.disabled = this.#recordButton.disabled
    this.#durationSelect.setAttribute('aria-label', `How long to record ${name}`)
    this.#renderRecordButton()

    const note = noteFor(maySnapshot, mayRecord, this.#context.role)
    setText(this.#note, note)
    this.#note.hidden = note === ''
    this.#note.id = `note-${device}`
    for (const button of [this.#snapshotButton, this.#recordButton]) {
      button.title = !button.disabled ? '' : !connected ? 'The camera is not connected' : note
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
    const size = this.#player.state === 'live' && this.#video.videoWidth > 0 ? `${this.#video.videoWidth}×${this.#video.videoHeight}` : resolution?.replace('x', '×') ?? null
    return [device, size, fps === null || fps === undefined ? null : `${Math.round(fps * 100) / 100} fps`].filter(part => part !== null).join(' · ')
  }

  /**
   * @param {keyof typeof BADGES} shown
   * @param {string} detail
   */
  #explain (shown, detail) {
    switch (shown) {
      case 'live': return ''
      case 'off':
      case 'connecting': return 'Waiting for the first picture…'
      case 'stalled': return this.#player.lastFrameAt === null ? this.#player.reason : `This picture is from ${when(this.#player.lastFrameAt)}.`
      case 'no picture': return `${this.#player.reason} Trying again…`
      default: return detail === '' ? 'The camera is not there. The picture returns with it.' : detail
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
 * Why the buttons of a card are of no use to this caller; empty when they are.
 * @param {boolean} maySnapshot
 * @param {boolean} mayRecord
 * @param {string} role
 */
function noteFor (maySnapshot, mayRecord, role) {
  if (maySnapshot && mayRecord) return ''
  const missing = !maySnapshot && !mayRecord ? 'take snapshots or record' : maySnapshot ? 'record' : 'take snapshots'
  return `Signed in as ${role}, you may not ${missing}.`
}
