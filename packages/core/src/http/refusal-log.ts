import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { createSampler, type Sampler } from '../sampler.js'

/** The fields of a refusal that are logged. */
export interface Refusal {
  readonly code: string
  readonly statusCode: number
  /** The reason, for the log only. */
  readonly reason?: string | undefined
}

const WINDOW_MS = 10_000
/** Log lines per error code and window. */
const LINES_PER_CODE = 10
/** Error codes are defined in the source of the service, so this many are enough. */
const MAX_CODES = 100

const samplers = new WeakMap<object, Sampler<Refusal>>()

/**
 * Logs a refusal, without a stack: any client can cause it, and it is not a fault of the service. Writes at most ten
 * lines per error code in ten seconds, then one line with the number of the others.
 */
export function logRefusal (fastify: FastifyInstance, log: FastifyBaseLogger, refusal: Refusal): void {
  let sampler = samplers.get(fastify.server)
  if (sampler === undefined) samplers.set(fastify.server, sampler = createRefusalSampler(fastify.log))
  if (!sampler.passes(refusal.code, refusal)) return
  const { code, statusCode: status, reason } = refusal
  const facts = reason === undefined ? { code, status } : { code, status, reason }
  if (status < 500) log.info(facts, 'request refused')
  else log.warn(facts, 'request refused')
}

/** Logs the remaining counts when the application closes. */
export function closeRefusalLog (fastify: FastifyInstance): void {
  samplers.get(fastify.server)?.close()
}

function createRefusalSampler (log: FastifyBaseLogger): Sampler<Refusal> {
  return createSampler({
    windowMs: WINDOW_MS,
    perKind: LINES_PER_CODE,
    maxKinds: MAX_CODES,
    report: ({ first: { code, statusCode: status }, count, since, overflow }) => {
      log.warn(
        overflow ? { count, since } : { code, status, count, since },
        'more requests refused than are logged one by one'
      )
    }
  })
}
