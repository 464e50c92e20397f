/**
 * Calls back after so many milliseconds, once every answer that already lies in a socket has been read.
 *
 * Node.js runs due timers before it reads sockets, so after a busy turn of the event loop a plain timer gives up on
 * answers that came in time. A callback of `setImmediate` runs after the sockets have been read once more.
 *
 * `clearTimeout` cancels it before that last look; what settles in the look itself must be ignored by `expired`.
 */
export function startDeadline (ms: number, expired: () => void): NodeJS.Timeout {
  return setTimeout(() => { setImmediate(expired) }, ms)
}

/**
 * Settles as the work does, or rejects when it has not settled after `deadlineMs` and one more look at the sockets: a
 * process that was busy itself does not take a store for dead. The work is not withdrawn.
 *
 * @param what the subject of the error's message, such as `'the store'`
 */
export async function withinDeadline<T> (deadlineMs: number, work: Promise<T>, what: string): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const timer = startDeadline(deadlineMs, () => {
      reject(new Error(`${what} did not answer within ${deadlineMs} ms`))
    })
    work.then(resolve, reject).finally(() => { clearTimeout(timer) })
  })
}
