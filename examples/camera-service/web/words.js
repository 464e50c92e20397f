import { ConnectionLost, RpcError, RpcTimeout } from './rpc.js'

/**
 * Describes an error for a person: what happened and what to do.
 * @param {unknown} error
 * @param {string} [doing] what was being tried: `take the snapshot`
 */
export function inWords (error, doing) {
  const reason = reasonOf(error)
  return doing === undefined ? reason : `Could not ${doing}. ${reason}`
}

/** @param {unknown} error */
function reasonOf (error) {
  if (error instanceof ConnectionLost) return 'The connection to the service is lost. The page is trying to restore it.'
  if (error instanceof RpcTimeout) return 'The service did not respond in time. Try again.'
  if (error instanceof RpcError) {
    switch (error.code) {
      case -32001: return 'You are not signed in, or your token has expired. Sign in with a new one.'
      case -32002: return 'Your role does not allow this.'
      case -32010: return 'It no longer exists.'
      case -32020: return sentence(error.message)
      case -32040: return `Too many requests. Try again ${inTime(error.retryAfterMs)}.`
      case -32050: return `The media server or the camera does not respond: ${lowerFirst(sentence(error.message))}`
      case -32060: return `There is a problem with the storage: ${lowerFirst(sentence(error.message))}`
      case -32603: return 'The service failed. See its log for the reason.'
      default: return sentence(error.message)
    }
  }
  if (error instanceof Error) return sentence(error.message)
  return 'Something unexpected happened.'
}

/** @param {number | null} ms */
export function inTime (ms) {
  if (ms === null) return 'in a moment'
  const seconds = Math.max(1, Math.ceil(ms / 1000))
  return seconds < 90 ? `in ${seconds} s` : `in ${Math.ceil(seconds / 60)} min`
}

/**
 * 75 -> `01:15`, 3675 -> `1:01:15`.
 * @param {number} seconds
 */
export function clock (seconds) {
  const whole = Math.max(0, Math.floor(seconds))
  const two = (/** @type {number} */ value) => String(value).padStart(2, '0')
  const hours = Math.floor(whole / 3600)
  return `${hours > 0 ? `${hours}:` : ''}${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`
}

/**
 * @param {number} seconds
 */
export function duration (seconds) {
  if (seconds < 60) return `${seconds < 10 ? Math.round(seconds * 10) / 10 : Math.round(seconds)} s`
  return seconds < 3600 ? `${clock(seconds)} min` : `${clock(seconds)} h`
}

/** @param {number} bytes */
export function size (bytes) {
  if (bytes < 1000) return `${bytes} B`
  const units = ['kB', 'MB', 'GB', 'TB']
  let value = bytes / 1000
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`
}

/**
 * Time of day for today, day and time before.
 * @param {string | number} moment ISO date, or milliseconds since the epoch
 */
export function when (moment) {
  const date = new Date(moment)
  if (Number.isNaN(date.getTime())) return 'at an unknown time'
  return withDay(date, date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' }))
}

/**
 * Hour and minute; with the day when that is not today.
 * @param {number} moment milliseconds since the epoch
 */
export function until (moment) {
  const date = new Date(moment)
  return withDay(date, date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }))
}

/**
 * Adds the day to a time that is not today.
 * @param {Date} date
 * @param {string} time
 */
function withDay (date, time) {
  if (date.toDateString() === new Date().toDateString()) return time
  return `${date.toLocaleDateString([], { day: 'numeric', month: 'short' })}, ${time}`
}

/** @param {string} text */
function sentence (text) {
  const trimmed = text.trim()
  if (trimmed === '') return 'The service gave no reason.'
  const upper = trimmed.charAt(0).toUpperCase() + trimmed.slice(1)
  return /[.!?]$/.test(upper) ? upper : `${upper}.`
}

/** @param {string} text */
function lowerFirst (text) {
  return text.charAt(0).toLowerCase() + text.slice(1)
}
