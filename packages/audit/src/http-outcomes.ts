import type { SecurityEvent } from '@marty/core'
import type { FastifyInstance, FastifyRequest } from 'fastify'

/**
 * Records the outcome of calls that the guard admitted, for routes whose rule asks for it. The guard itself emits its
 * refusals, before anything here runs.
 */
export function recordHttpOutcomes (fastify: FastifyInstance, record: (event: SecurityEvent) => Promise<void>): void {
  /** Requests to record, with their addresses, which are no longer available once the connection is closed. */
  const addresses = new WeakMap<FastifyRequest, string | null>()
  const errorCodes = new WeakMap<FastifyRequest, string>()

  /** `status` is null when the client disconnected before the response. */
  function recordOnce (request: FastifyRequest, status: number | null): void {
    const address = addresses.get(request)
    if (address === undefined) return
    addresses.delete(request)
    void record(outcomeOf(request, address, status, errorCodes.get(request))).catch(() => {})
  }

  // The first hook after the guard's.
  fastify.addHook('preParsing', (request, reply, _payload, done) => {
    const audit = request.routeOptions.config.security?.audit
    if (audit === 'all' || audit === 'required') {
      addresses.set(request, request.ip ?? null)
      // A client may disconnect before the response. Fastify calls no hook then, but the call must be recorded.
      reply.raw.once('close', () => { recordOnce(request, null) })
    }
    done()
  })
  fastify.addHook('onError', (request, _reply, error, done) => {
    if (addresses.has(request)) errorCodes.set(request, error.code ?? 'ERROR')
    done()
  })
  fastify.addHook('onResponse', (request, reply, done) => {
    recordOnce(request, reply.statusCode)
    done()
  })
}

function outcomeOf (
  request: FastifyRequest,
  address: string | null,
  status: number | null,
  errorCode: string | undefined
): SecurityEvent {
  const reason = reasonOf(status, errorCode)
  const { id, kind, roles } = request.principal
  return {
    type: 'operation',
    action: `${request.method} ${request.routeOptions.url ?? ''}`,
    outcome: reason === null ? 'success' : failureOf(status),
    reason,
    principal: { id, kind, roles },
    address,
    requestId: request.id,
    object: pathOf(request.url),
    details: { status }
  }
}

/** Why a call did not succeed; null when it did. */
function reasonOf (status: number | null, errorCode: string | undefined): string | null {
  if (status === null) return 'CLIENT_ABORTED'
  return errorCode ?? (status < 400 ? null : `HTTP_${status}`)
}

function failureOf (status: number | null): 'denied' | 'failure' {
  return status === 401 || status === 403 ? 'denied' : 'failure'
}

/** Query strings may contain tokens and are never written. */
function pathOf (url: string): string {
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query)
}
