import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

/** A label from a closed set: any client can send any method, and each value would be a time series for good. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
/** The label of requests that no route matches: their URLs are chosen by clients. */
const UNMATCHED = 'unmatched'

/** Counts and times every HTTP request by its route pattern, never by its URL. */
export function measureRequests (
  fastify: FastifyInstance,
  registry: Registry,
  bucketsSeconds: readonly number[]
): void {
  const registers = [registry]
  const requests = new Counter({
    name: 'http_requests_total',
    help: 'HTTP requests answered, by route pattern, status code and kind of caller (anonymous when refused).',
    labelNames: ['method', 'route', 'status', 'principal'],
    registers
  })
  const durations = new Histogram({
    name: 'http_request_duration_seconds',
    help: 'Time from the first byte of an HTTP request to the end of its response.',
    labelNames: ['method', 'route'],
    buckets: [...bucketsSeconds],
    registers
  })
  const open = new Gauge({
    name: 'http_requests_in_progress',
    help: 'HTTP requests that are being answered.',
    registers
  })

  // An earlier hook may refuse a request, which is then answered without being counted here.
  const isOpen = new WeakSet<FastifyRequest>()
  const close = (request: FastifyRequest): void => { if (isOpen.delete(request)) open.dec() }
  fastify.addHook('onRequest', (request, _reply, done) => {
    isOpen.add(request)
    open.inc()
    done()
  })
  // A client that leaves early has no response, so onResponse does not run for it.
  fastify.addHook('onRequestAbort', (request, done) => {
    close(request)
    done()
  })
  fastify.addHook('onResponse', (request, reply, done) => {
    const { method: rawMethod, is404 } = request
    const method = METHODS.has(rawMethod) ? rawMethod : 'other'
    const route = is404 ? UNMATCHED : request.routeOptions.url ?? UNMATCHED
    requests.inc({ method, route, status: reply.statusCode, principal: request.principal?.kind ?? 'anonymous' })
    durations.observe({ method, route }, reply.elapsedTime / 1_000)
    close(request)
    done()
  })
}
