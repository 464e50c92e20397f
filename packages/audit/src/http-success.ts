import type { SecurityEvent } from '@marty/core'
import type { FastifyInstance, FastifyRequest } from 'fastify'

/**
 * Tells how calls ended that the guard let pass, for routes whose rule asks for it. Refusals by the guard are told by
 * the guard itself, before anything here runs.
 */
export function recordHttpOutcomes (fastify: FastifyInstance, record: (event: SecurityEvent) => Promise<void>): void {
  const passed = new WeakSet<FastifyRequest>()
  const failures = new WeakMap<FastifyRequest, string>()

  // The first hook after the guard's.
  fastify.addHook('preParsing', (request, _reply, _payload, done) => {
    const audit = request.routeOptions.config.security?.audit
    if (audit === 'all' || audit === 'required') passed.add(request)
    done()
  })
  fastify.addHook('onError', (request, _reply, error, done) => {
    if (passed.has(request)) failures.set(request, error.code ?? 'ERROR')
    done()
  })
  fastify.addHook('onResponse', (request, reply, done) => {
    if (passed.has(request)) void record(outcomeOf(request, reply.statusCode)).catch(() => {})
    done()
  })
  // A client that goes away before the answer still did what it did.
  fastify.addHook('onRequestAbort', (request, done) => {
    if (passed.has(request)) failures.set(request, 'CLIENT_ABORTED')
    done()
  })

  function outcomeOf (request: FastifyRequest, status: number): SecurityEvent {
    const reason = failures.get(request) ?? (status < 400 ? null : `HTTP_${status}`)
    const { id, kind, roles } = request.principal
    return {
      type: 'operation',
      action: `${request.method} ${request.routeOptions.url ?? ''}`,
      outcome: reason === null ? 'success' : status === 401 || status === 403 ? 'denied' : 'failure',
      reason,
      principal: { id, kind, roles },
      address: request.ip ?? null,
      requestId: request.id,
      object: pathOf(request.url),
      details: { status }
    }
  }
}

/** Query strings carry tokens and are never written down. */
function pathOf (url: string): string {
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query)
}
