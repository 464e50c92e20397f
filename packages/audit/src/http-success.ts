import type { SecurityEvent } from '@marty/core'
import type { FastifyInstance, FastifyRequest } from 'fastify'

/**
 * Records the outcome of calls that the guard admitted, for routes whose rule asks for it. The guard itself emits its
 * refusals, before anything here runs.
 */
export function recordHttpOutcomes (fastify: FastifyInstance, record: (event: SecurityEvent) => Promise<void>): void {
  /** Requests to record, with their addresses, which are no longer available once the connection is closed. */
  const passed = new WeakMap<FastifyRequest, string | null>()
  const failures = new WeakMap<FastifyRequest, string>()
  const tell = (request: FastifyRequest, status: number | null): void => {
    const address = passed.get(request)
    if (address === undefined) return
    passed.delete(request)
    void record(outcomeOf(request, address, status)).catch(() => {})
  }

  // The first hook after the guard's.
  fastify.addHook('preParsing', (request, reply, _payload, done) => {
    const audit = request.routeOptions.config.security?.audit
    if (audit === 'all' || audit === 'required') {
      passed.set(request, request.ip ?? null)
      // A client may disconnect before the response. Fastify calls no hook then, but the call must be recorded.
      reply.raw.once('close', () => { tell(request, null) })
    }
    done()
  })
  fastify.addHook('onError', (request, _reply, error, done) => {
    if (passed.has(request)) failures.set(request, error.code ?? 'ERROR')
    done()
  })
  fastify.addHook('onResponse', (request, reply, done) => {
    tell(request, reply.statusCode)
    done()
  })

  /** `status` is null when the client disconnected before the response. */
  function outcomeOf (request: FastifyRequest, address: string | null, status: number | null): SecurityEvent {
    const reason =
      status === null ? 'CLIENT_ABORTED' : (failures.get(request) ?? (status < 400 ? null : `HTTP_${status}`))
    const { id, kind, roles } = request.principal
    return {
      type: 'operation',
      action: `${request.method} ${request.routeOptions.url ?? ''}`,
      outcome: reason === null ? 'success' : status === 401 || status === 403 ? 'denied' : 'failure',
      reason,
      principal: { id, kind, roles },
      address,
      requestId: request.id,
      object: pathOf(request.url),
      details: { status }
    }
  }
}

/** Query strings may contain tokens and are never written. */
function pathOf (url: string): string {
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query)
}
