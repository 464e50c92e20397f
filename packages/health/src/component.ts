import { SingleFlight } from '@marty/core'
import { performance } from 'node:perf_hooks'

export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy'

/** The result of a probe. */
export interface ProbeResult {
  readonly status: HealthStatus
  /** Shown to anonymous callers: no host names, versions or secrets. */
  readonly details: string
  /** Measured values for `fastify.health.report()`; never sent over HTTP. */
  readonly data?: object
}

/**
 * Measures one component. When the signal aborts, the result is no longer awaited, but a probe that ignores the signal
 * continues in the background. Pass the signal on to the calls that the probe makes.
 */
export type Probe = (signal: AbortSignal) => Promise<ProbeResult>

export interface ComponentOptions {
  readonly name: string
  readonly probe: Probe
  readonly timeoutMs: number
  readonly cacheMs: number
  /** Called when the status changes. `cause` is the error when the probe itself failed. */
  readonly onChange: (name: string, status: HealthStatus, cause: unknown) => void
}

/**
 * Wraps a probe with a time limit and a short cache. Concurrent callers share one run, so that many health requests
 * cost the component only one measurement.
 */
export function createComponent ({
  name, probe, timeoutMs, cacheMs, onChange
}: ComponentOptions): () => Promise<ProbeResult> {
  const flight = new SingleFlight(measure)
  let last: { readonly result: ProbeResult, readonly until: number } | null = null

  async function measure (): Promise<ProbeResult> {
    let cause: unknown
    const result = await withinTime(probe, timeoutMs).catch((error: unknown): ProbeResult => {
      cause = error
      return {
        status: 'unhealthy',
        details: error instanceof TimedOut ? 'The check did not finish in time' : 'The check failed'
      }
    })
    if (result.status !== (last?.result.status ?? 'healthy')) onChange(name, result.status, cause)
    last = { result, until: performance.now() + cacheMs }
    return result
  }

  return async () => {
    if (!flight.isRunning && last !== null && performance.now() < last.until) return last.result
    return await flight.join()
  }
}

class TimedOut extends Error {}

async function withinTime (probe: Probe, timeoutMs: number): Promise<ProbeResult> {
  const controller = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const expired = new Promise<never>((resolve, reject) => {
    timer = setTimeout(() => {
      const error = new TimedOut(`no answer within ${timeoutMs} ms`)
      // Reject before aborting: otherwise a probe that rejects on abort would be reported as failed, not as timed out.
      reject(error)
      controller.abort(error)
    }, timeoutMs)
  })
  try {
    return verified(await Promise.race([probe(controller.signal), expired]))
  } finally {
    clearTimeout(timer)
  }
}

function verified (result: unknown): ProbeResult {
  const { status, details } = (result ?? {}) as Partial<ProbeResult>
  if (status !== 'healthy' && status !== 'degraded' && status !== 'unhealthy') {
    throw new TypeError(`a probe answered with the status "${String(status)}"`)
  }
  if (typeof details !== 'string') throw new TypeError('a probe answered without details')
  return result as ProbeResult
}
