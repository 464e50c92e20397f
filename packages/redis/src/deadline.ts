/**
 * Calls `expired` after `ms` milliseconds, but only after reading the answers that have already arrived.
 *
 * Node.js runs due timers before it reads sockets. After the event loop was busy, a plain timer would therefore fire
 * before answers that arrived in time are read. A `setImmediate` callback runs after the sockets have been read again.
 *
 * `clearTimeout` cancels it only before that last read. `expired` must ignore work that settles during the read.
 */
export function startDeadline (ms: number, expired: () => void): NodeJS.Timeout {
  return setTimeout(() => { setImmediate(expired) }, ms)
}

/**
 * Settles like `work`, or rejects if `work` has not settled after `deadlineMs` and one more read of the sockets, so
 * that a busy event loop is not mistaken for a store that does not answer. The work itself is not cancelled.
 *
 * @param what the subject of the error message, such as `'the store'`
 */
export async function withinDeadline<T> (deadlineMs: number, work: Promise<T>, what: string): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const timer = startDeadline(deadlineMs, () => {
      reject(new Error(`${what} did not answer within ${deadlineMs} ms`))
    })
    work.then(resolve, reject).finally(() => { clearTimeout(timer) })
  })
}
