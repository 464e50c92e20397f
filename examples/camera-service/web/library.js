import { byId, element, setText } from './element.js'
import { RecordingRow } from './recording-row.js'
import { toast } from './toasts.js'
import { inWords, when } from './words.js'

/**
 * A stored file as the service lists it.
 * @typedef {object} StoredFile
 * @property {string} filename
 * @property {string} device
 * @property {number} file_size bytes
 * @property {string} modified_time
 * @property {string} download_url
 * @property {number} [duration] seconds
 * @property {string | null} [resolution]
 */

const SNAPSHOTS_SHOWN = 9
const RECORDINGS_SHOWN = 20

/** The latest snapshots and recordings, kept beside the wall. */
export class Library {
  /** @type {Map<string, { url: string, node: HTMLElement }>} */
  #thumbs = new Map()
  /** @type {Map<string, RecordingRow>} */
  #rows = new Map()
  #snapshots = element('div', { class: 'thumbs' })
  #snapshotCount = element('span', { class: 'count' })
  #recordings = element('ul', { class: 'recordings' })
  #recordingCount = element('span', { class: 'count' })
  #call
  #files
  #nameOf
  /** @type {Promise<void>} */
  #refreshing = Promise.resolve()
  #closed = false

  /**
   * @param {HTMLElement} node
   * @param {(method: string, params?: Record<string, unknown>) => Promise<any>} call
   * @param {import('./files.js').Files} files
   * @param {(device: string) => string} nameOf the name people know a camera by
   */
  constructor (node, call, files, nameOf) {
    this.#call = call
    this.#files = files
    this.#nameOf = nameOf
    node.replaceChildren(
      element('section', { 'aria-label': 'Snapshots' },
        element('h2', {}, 'Snapshots ', this.#snapshotCount), this.#snapshots),
      element('section', { 'aria-label': 'Recordings' },
        element('h2', {}, 'Recordings ', this.#recordingCount), this.#recordings))
  }

  refreshSnapshots () {
    return this.#inTurn(async () => {
      const { files, total } = await this.#call('list_snapshots', { limit: SNAPSHOTS_SHOWN })
      setText(this.#snapshotCount, countOf(files.length, total))
      await this.#showSnapshots(files)
    }, 'list the snapshots')
  }

  refreshRecordings () {
    return this.#inTurn(async () => {
      const { files, total } = await this.#call('list_recordings', { limit: RECORDINGS_SHOWN })
      setText(this.#recordingCount, countOf(files.length, total))
      this.#showRecordings(files)
    }, 'list the recordings')
  }

  /** Releases every picture and stops every download. */
  close () {
    this.#closed = true
    for (const { url } of this.#thumbs.values()) URL.revokeObjectURL(url)
    for (const row of this.#rows.values()) row.close()
    this.#thumbs.clear()
    this.#rows.clear()
  }

  /**
   * One refresh after the other, so that an older list never replaces a newer one.
   * @param {() => Promise<void>} action
   * @param {string} doing
   */
  #inTurn (action, doing) {
    this.#refreshing = this.#refreshing.then(async () => {
      if (this.#closed) return
      try {
        await action()
      } catch (error) {
        if (!this.#closed) toast(inWords(error, doing), 'error')
      }
    })
    return this.#refreshing
  }

  /** @param {StoredFile[]} files */
  async #showSnapshots (files) {
    const names = new Set(files.map(file => file.filename))
    for (const [name, { url }] of this.#thumbs) {
      if (names.has(name)) continue
      URL.revokeObjectURL(url)
      this.#thumbs.delete(name)
    }
    const missing = files.filter(file => !this.#thumbs.has(file.filename))
    await Promise.all(missing.map(file => this.#loadThumb(file)))
    if (this.#closed) return
    const nodes = files.map(file => this.#thumbs.get(file.filename)?.node).filter(node => node !== undefined)
    this.#snapshots.replaceChildren(...(nodes.length > 0 ? nodes : [element('p', { class: 'empty' }, 'None yet.')]))
  }

  /** @param {StoredFile} file */
  async #loadThumb (file) {
    const taken = `${this.#nameOf(file.device)}, ${when(file.modified_time)}`
    let blob
    try {
      blob = await this.#files.fetch(file.download_url)
    } catch (error) {
      toast(inWords(error, 'load a snapshot'), 'error')
      return
    }
    if (this.#closed) return
    const url = URL.createObjectURL(blob)
    const node = element('button', {
      type: 'button', class: 'thumb', 'data-testid': 'snapshot-thumb', 'data-filename': file.filename, title: taken
    }, element('img', { src: url, alt: `Snapshot of ${taken}` }))
    node.addEventListener('click', () => this.#open(file, blob, url, taken))
    this.#thumbs.set(file.filename, { url, node })
  }

  /**
   * @param {StoredFile} file
   * @param {Blob} blob
   * @param {string} url
   * @param {string} taken
   */
  #open (file, blob, url, taken) {
    const viewer = byId('viewer', HTMLDialogElement)
    const save = element('button', { type: 'button', class: 'button' }, 'Download')
    const close = element('button', { type: 'button', class: 'button quiet' }, 'Close')
    save.addEventListener('click', () => this.#files.save(blob, file.filename))
    close.addEventListener('click', () => viewer.close())
    viewer.replaceChildren(
      element('img', { src: url, alt: `Snapshot of ${taken}` }),
      element('div', { class: 'viewer-bar' }, element('p', {}, taken), save, close))
    viewer.showModal()
    close.focus()
  }

  /** @param {StoredFile[]} files */
  #showRecordings (files) {
    const names = new Set(files.map(file => file.filename))
    for (const [name, row] of this.#rows) {
      if (names.has(name)) continue
      row.close()
      this.#rows.delete(name)
    }
    const nodes = files.map(file => {
      const row = this.#rows.get(file.filename) ?? new RecordingRow(file, this.#nameOf(file.device), this.#files)
      row.update(file)
      this.#rows.set(file.filename, row)
      return row.node
    })
    this.#recordings.replaceChildren(...(nodes.length > 0 ? nodes : [element('li', { class: 'empty' }, 'None yet.')]))
  }
}

/**
 * @param {number} shown
 * @param {number} total
 */
function countOf (shown, total) {
  if (total === 0) return ''
  return shown < total ? `latest ${shown} of ${total}` : String(total)
}
