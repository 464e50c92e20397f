import { element, setText } from './element.js'
import { toast } from './toasts.js'
import { duration, inWords, size, when } from './words.js'

/** One stored recording, which can be downloaded. */
export class RecordingRow {
  #file
  #files
  #what = element('p', { class: 'what' })
  #facts = element('p', { class: 'facts' })
  #button = element('button', { type: 'button', class: 'button small' }, 'Download')
  #progress = element('progress', { max: '1', hidden: true })
  /** @type {AbortController | null} */
  #running = null

  /**
   * @param {import('./library.js').StoredFile} file
   * @param {string} cameraName
   * @param {import('./files.js').Files} files
   */
  constructor (file, cameraName, files) {
    this.#file = file
    this.#files = files
    this.#what.textContent = cameraName
    this.node = element('li', { 'data-testid': 'recording-row', 'data-filename': file.filename },
      element('div', { class: 'about' }, this.#what, this.#facts), this.#button, this.#progress)
    this.#button.addEventListener('click', () => { void this.#download() })
  }

  /** @param {import('./library.js').StoredFile} file */
  update (file) {
    this.#file = file
    const length = file.duration === undefined ? null : duration(file.duration)
    const facts = [when(file.modified_time), length, size(file.file_size)]
    // Each fact stays in one piece; lines break between them.
    setText(this.#facts, facts.filter(fact => fact !== null).map(fact => fact.replaceAll(' ', '\u00a0')).join(' · '))
    const label = `Download the recording of ${this.#what.textContent}, ${when(file.modified_time)}`
    this.#button.setAttribute('aria-label', label)
    this.node.title = file.filename
  }

  close () {
    this.#running?.abort()
  }

  async #download () {
    if (this.#running !== null) {
      this.#running.abort()
      return
    }
    const running = new AbortController()
    this.#running = running
    this.#button.textContent = 'Cancel'
    this.#progress.hidden = false
    this.#progress.removeAttribute('value')
    this.#progress.setAttribute('aria-label', 'Download')
    try {
      const blob = await this.#files.fetch(this.#file.download_url, (received, total) => {
        const expected = total ?? this.#file.file_size
        if (expected > 0) this.#progress.value = Math.min(1, received / expected)
      }, running.signal)
      this.#files.save(blob, this.#file.filename)
    } catch (error) {
      if (!running.signal.aborted) toast(inWords(error, 'download the recording'), 'error')
    } finally {
      this.#running = null
      this.#button.textContent = 'Download'
      this.#progress.hidden = true
    }
  }
}
