import { performance } from 'node:perf_hooks'

export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy'

/** What a probe found out. */
export interface ProbeResult {
  readonly status: HealthStatus
  /** For an anonymous reader: no host names, versions or secrets. */
  readonly details: string
  /** Figures for `fastify.health.report()`; never sent over HTTP. */
  readonly data?: object
}

/**
 * Measures one component. Work still going on when the signal fires is not waited for; a probe that ignores the
 * signal goes on in the background, so pass it on to whatever is asked.
 */
export type Probe = (signal: AbortSignal) => Promise<ProbeResult>

export interface ComponentOptions {
  readonly name: string
  readonly probe: Probe
  readonly timeoutMs: number
  readonly cacheMs: number
  /** Told when the status differs from the one before, and why when the probe itself broke. */
  readonly onChange: (name: string, status: HealthStatus, cause: unknown) => void
}

/** A probe behind a time limit, a short memory, and one flight at a time: many askers cost the component one question. */
export function createComponent ({
  name, probe, timeoutMs, cacheMs, onChange
}: ComponentOptions): () => Promise<ProbeResult> {
  let flight: Promise<ProbeResult> | null = null
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
    flight = null
    return result
  }

  return async () => {
    if (flight !== null) return await flight
    if (last !== null && performance.now() < last.until) return last.result
    flight = measure()
    return await flight
  }
}

class TimedOut extends Error {}

async function withinTime (probe: Probe, timeoutMs: number): Promise<ProbeResult> {
  const controller = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const expired = new Promise<never>((resolve, reject) => {
    timer = setTimeout(() => {
      const error = new TimedOut(`no answer within ${timeoutMs} ms`)
      // First this answer, then the abort: a probe that rejects on abort must not make it "failed".
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
