/**
 * @typedef {object} WhepSession
 * @property {MediaStream} stream
 * @property {() => void} close ends the session here and at the server
 */

/** The server did not open a session. `status` is its HTTP status, 0 when it could not be reached. */
export class WhepError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor (status, message) {
    super(message)
    this.status = status
  }
}

/** On one machine or one network the candidates are there at once; nothing is gained by waiting longer. */
const GATHERING_TIMEOUT_MS = 2000
const REQUEST_TIMEOUT_MS = 10_000

/**
 * Receives video and sound from a WHEP endpoint (RFC 9725), with all candidates in the offer.
 * @param {string} url
 * @param {() => void} onBroken the connection was made and has failed
 * @returns {Promise<WhepSession>}
 */
export async function openWhep (url, onBroken) {
  const connection = new RTCPeerConnection()
  const stream = new MediaStream()
  /** @type {string | null} */
  let resource = null
  let closed = false

  function close () {
    if (closed) return
    closed = true
    connection.close()
    // The server would notice after its own timeout; this ends the session at once.
    if (resource !== null) fetch(resource, { method: 'DELETE', keepalive: true }).catch(() => {})
    removeEventListener('pagehide', close)
  }

  connection.addEventListener('track', event => stream.addTrack(event.track))
  connection.addEventListener('connectionstatechange', () => {
    if (!closed && connection.connectionState === 'failed') onBroken()
  })
  addEventListener('pagehide', close)

  try {
    connection.addTransceiver('video', { direction: 'recvonly' })
    connection.addTransceiver('audio', { direction: 'recvonly' })
    await connection.setLocalDescription(await connection.createOffer())
    await gathered(connection)
    const answer = await post(url, connection.localDescription?.sdp ?? '')
    resource = answer.resource
    await connection.setRemoteDescription({ type: 'answer', sdp: answer.sdp })
    return { stream, close }
  } catch (error) {
    close()
    throw error
  }
}

/**
 * @param {string} url
 * @param {string} offer
 */
async function post (url, offer) {
  let response
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/sdp' },
      body: offer,
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS)
    })
  } catch {
    throw new WhepError(0, 'the media server cannot be reached')
  }
  if (response.status !== 201) throw new WhepError(response.status, `the media server responded with status ${response.status}`)
  const location = response.headers.get('Location')
  return { sdp: await response.text(), resource: location === null ? null : new URL(location, url).href }
}

/** @param {RTCPeerConnection} connection */
function gathered (connection) {
  return new Promise(resolve => {
    const done = () => {
      if (connection.iceGatheringState !== 'complete') return
      clearTimeout(timer)
      resolve(undefined)
    }
    const timer = setTimeout(resolve, GATHERING_TIMEOUT_MS)
    connection.addEventListener('icegatheringstatechange', done)
    done()
  })
}
