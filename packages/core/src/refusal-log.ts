import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { createSampler, type Sampler } from './sampler.js'

/** As much of a refusal as is logged. */
export interface Refusal {
  readonly code: string
  readonly statusCode: number
  /** Why, for the log alone. */
  readonly reason?: string | undefined
}

const WINDOW_MS = 10_000
/** Lines of one code in a window. */
const LINES_PER_CODE = 10
/** Codes come from the code of the service, so these are plenty. */
const MAX_CODES = 100

const samplers = new WeakMap<object, Sampler<Refusal>>()

/**
 * Logs a refusal, without a stack: a client can cause it at will, and it is no fault of the service. Of each code ten
 * lines are written in ten seconds, and then one that counts the others.
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

/** Writes down what is counted, when the application closes. */
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
