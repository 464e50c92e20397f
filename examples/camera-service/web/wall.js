import { CameraCard } from './camera-card.js'
import { byId, element, setText } from './element.js'
import { Files } from './files.js'
import { Library } from './library.js'
import { ConnectionLost, RpcError } from './rpc.js'
import { toast } from './toasts.js'
import { inWords } from './words.js'

/** Notifications report changes; polling only catches missed ones. A viewer has 60 calls per minute in all. */
const POLL_EVERY_MS = 10_000

/** The view of a signed-in caller: every camera, and the stored snapshots and recordings. */
export class Wall {
  /** @type {Map<string, CameraCard>} */
  #cards = new Map()
  /** @type {Map<string, import('./camera-card.js').Camera>} */
  #cameras = new Map()
  #client
  #session
  #onUnauthenticated
  #library
  #node = byId('wall', HTMLElement)
  #summary = byId('summary', HTMLElement)
  #pollTimer
  #libraryLoaded = false
  #listeners = new AbortController()

  /**
   * @param {import('./rpc.js').RpcClient} client
   * @param {import('./session.js').Session} session
   * @param {() => void} onUnauthenticated a call was refused because the service no longer knows who this is
   */
  constructor (client, session, onUnauthenticated) {
    this.#client = client
    this.#session = session
    this.#onUnauthenticated = onUnauthenticated
    this.#library = new Library(byId('library', HTMLElement), this.#call, new Files(() => session.credential),
      device => this.#cameras.get(device)?.name ?? device)
    const { signal } = this.#listeners
    client.addEventListener('notify:camera_status_update', event => {
      this.#showCamera(/** @type {CustomEvent} */ (event).detail)
    }, { signal })
    client.addEventListener('notify:recording_status_update', event => {
      this.#showRecording(/** @type {CustomEvent} */ (event).detail)
    }, { signal })
    this.#pollTimer = setInterval(() => { if (!document.hidden) void this.#refreshCameras() }, POLL_EVERY_MS)
  }

  /** Loads everything: after signing in, and after the connection was restored. */
  async refresh () {
    await this.#refreshCameras()
    for (const card of this.#cards.values()) card.resume()
    await Promise.all([this.#library.refreshSnapshots(), this.#library.refreshRecordings()])
    this.#libraryLoaded = true
  }

  close () {
    this.#listeners.abort()
    clearInterval(this.#pollTimer)
    for (const card of this.#cards.values()) card.close()
    this.#library.close()
    this.#node.replaceChildren()
    byId('library', HTMLElement).replaceChildren()
    byId('viewer', HTMLDialogElement).close()
  }

  /**
   * @param {string} method
   * @param {Record<string, unknown>} [params]
   */
  #call = async (method, params = {}) => {
    try {
      return await this.#client.call(method, params)
    } catch (error) {
      if (error instanceof RpcError && error.code === -32001) this.#onUnauthenticated()
      throw error
    }
  }

  async #refreshCameras () {
    try {
      const { cameras } = await this.#call('get_camera_list')
      const listed = new Set(cameras.map((/** @type {import('./camera-card.js').Camera} */ camera) => camera.device))
      for (const [device, card] of this.#cards) {
        if (listed.has(device)) continue
        card.close()
        card.node.remove()
        this.#cards.delete(device)
        this.#cameras.delete(device)
      }
      for (const camera of cameras) this.#showCamera(camera)
      this.#summarize()
    } catch (error) {
      // The banner reports a lost connection.
      if (!(error instanceof ConnectionLost)) toast(inWords(error, 'list the cameras'), 'error')
    }
  }

  /** @param {import('./camera-card.js').Camera} camera */
  #showCamera (camera) {
    this.#cameras.set(camera.device, camera)
    const card = this.#cards.get(camera.device)
    if (card === undefined) this.#addCard(camera)
    else card.update(camera)
    this.#summarize()
  }

  /** @param {import('./camera-card.js').Camera} camera */
  #addCard (camera) {
    const card = new CameraCard(camera, {
      call: this.#call,
      may: permission => this.#session.may(permission),
      role: this.#session.account?.role ?? '',
      onSnapshot: () => { void this.#library.refreshSnapshots() },
      onRecording: () => { void this.#library.refreshRecordings() }
    })
    this.#cards.set(camera.device, card)
    const order = [...this.#cards.keys()].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }))
    const later = order.slice(order.indexOf(camera.device) + 1).map(device => this.#cards.get(device)?.node)
    const after = later.find(node => node?.isConnected === true)
    this.#node.insertBefore(card.node, after ?? null)
  }

  /** @param {{ device: string, status: string, filename: string }} update */
  #showRecording ({ device, status, filename }) {
    const name = this.#cameras.get(device)?.name ?? device
    const card = this.#cards.get(device)
    if (status === 'WAITING' || status === 'RESUMED') {
      card?.setWaiting(status === 'WAITING')
      return
    }
    const started = status === 'STARTED'
    card?.setRecording(started, started ? Date.now() : null)
    if (status === 'ERROR') {
      toast(`${name}: the recording ended with an error. The video recorded until then is kept.`, 'error')
    } else if (!started) {
      toast(`${name}: the recording ${filename} is finished.`)
    }
    if (!started && this.#libraryLoaded) void this.#library.refreshRecordings()
  }

  #summarize () {
    const all = [...this.#cameras.values()]
    const connected = all.filter(camera => camera.status === 'CONNECTED').length
    setText(this.#summary, all.length === 0 ? '' : `${connected} of ${all.length} connected`)
    if (all.length > 0) {
      this.#node.querySelector('.empty')?.remove()
    } else if (this.#node.childElementCount === 0) {
      this.#node.append(element('p', { class: 'empty' }, 'There are no cameras yet. New ones appear here automatically.'))
    }
  }
}
