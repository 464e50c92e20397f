import { inTime } from './words.js'

/**
 * Fetches stored files with the credential in a header, so that no URL carries it.
 */
export class Files {
  #credential

  /** @param {() => string | null} credential */
  constructor (credential) {
    this.#credential = credential
  }

  /**
   * @param {string} url
   * @param {(received: number, total: number | null) => void} [onProgress] bytes
   * @param {AbortSignal} [signal]
   * @returns {Promise<Blob>}
   */
  async fetch (url, onProgress, signal) {
    let response
    try {
      response = await fetch(url, {
        headers: { Authorization: `Bearer ${this.#credential() ?? ''}` },
        cache: 'no-store',
        ...(signal === undefined ? {} : { signal })
      })
    } catch (error) {
      if (signal?.aborted === true) throw error
      throw new Error('The service cannot be reached.')
    }
    if (!response.ok) throw new Error(refusal(response))
    if (onProgress === undefined || response.body === null) return await response.blob()

    const total = Number(response.headers.get('Content-Length') ?? NaN)
    const parts = []
    let received = 0
    for (const reader = response.body.getReader(); ;) {
      const { done, value } = await reader.read()
      if (done) break
      parts.push(value)
      received += value.byteLength
      onProgress(received, Number.isNaN(total) ? null : total)
    }
    return new Blob(parts, { type: response.headers.get('Content-Type') ?? '' })
  }

  /**
   * Hands a file to the browser to save.
   * @param {Blob} blob
   * @param {string} name
   */
  save (blob, name) {
    const url = URL.createObjectURL(blob)
    const link = document.createElement('a')
    link.href = url
    link.download = name
    link.click()
    // The browser takes the blob when the click is handled, some of them a moment later.
    setTimeout(() => URL.revokeObjectURL(url), 60_000)
  }
}

/** @param {Response} response */
function refusal (response) {
  const seconds = Number(response.headers.get('Retry-After') ?? NaN)
  switch (response.status) {
    case 401: return 'Your session has ended. Sign in again.'
    case 403: return 'Your role does not allow this.'
    case 404: return 'The file no longer exists.'
    case 429: return `Too many requests. Try again ${inTime(Number.isNaN(seconds) ? null : seconds * 1000)}.`
    default: return `The service responded with status ${response.status}.`
  }
}
