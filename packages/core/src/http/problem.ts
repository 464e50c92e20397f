import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { STATUS_CODES } from 'node:http'
import { MartyError } from '../marty-error.js'
import { logRefusal } from './refusal-log.js'

/** Problem details for HTTP APIs (RFC 9457), as this framework writes them. */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly instance: string
  readonly code: string
  readonly request_id: string
  readonly [extension: string]: unknown
}

/**
 * Turns any error into a problem document that is safe to send. Errors that were not meant for the caller become a
 * plain 500 without their message.
 */
export function toProblem (error: unknown, instance: string, requestId: string): Problem {
  if (error instanceof MartyError && error.statusCode !== 500) {
    return problem(error.type, error.statusCode, error.message, error.code, instance, requestId, error.data)
  }
  const { statusCode, code, message } = (error ?? {}) as Partial<FastifyError>
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return problem('about:blank', statusCode, message ?? '', code ?? 'MARTY_CORE_BAD_REQUEST', instance, requestId)
  }
  // Errors of Fastify and its plugins, such as FST_UNDER_PRESSURE, are intended responses, not faults.
  if (statusCode !== undefined && statusCode > 500 && statusCode < 600 && code?.startsWith('FST_') === true) {
    return problem('about:blank', statusCode, 'The service cannot answer this now', code, instance, requestId)
  }
  return problem(
    'about:blank',
    500,
    'The request could not be completed; the service has logged why',
    'MARTY_CORE_INTERNAL',
    instance,
    requestId
  )
}

/** Fastify error handler that answers every failure as `application/problem+json`. */
export function problemErrorHandler (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const document = toProblem(error, pathOf(request.url), request.id)
  if (document.status === 500) request.log.error({ err: error }, 'request failed')
  else {
    logRefusal(request.server, request.log, {
      code: document.code,
      statusCode: document.status,
      reason: reasonOf(error)
    })
  }
  if (error instanceof MartyError) void reply.headers(error.headers)
  return reply.code(document.status).type('application/problem+json').send(document)
}

/** Sends a refusal as the same document. Serialized by hand, because it is the most frequent response under attack. */
export function sendRefusal (error: MartyError, request: FastifyRequest, reply: FastifyReply): void {
  const { code, data, headers, message, statusCode, type } = error
  logRefusal(request.server, request.log, error)
  let text = '{'
  for (const key in data) {
    if (!STANDARD.has(key) && data[key] !== undefined) text += `${JSON.stringify(key)}:${JSON.stringify(data[key])},`
  }
  text +=
    `"type":"${type}","title":"${STATUS_CODES[statusCode] ?? 'Error'}","status":${statusCode},"detail":${JSON.stringify(message)},` +
    `"instance":${JSON.stringify(pathOf(request.url))},"code":"${code}","request_id":${JSON.stringify(request.id)}}`
  void reply
    .code(statusCode)
    .headers(headers)
    .header('content-type', 'application/problem+json; charset=utf-8')
    .send(text)
}

const STANDARD: ReadonlySet<string> = new Set(['type', 'title', 'status', 'detail', 'instance', 'code', 'request_id'])

function reasonOf (error: unknown): string | undefined {
  return error instanceof MartyError ? error.reason : undefined
}

/** Fastify not-found handler that answers with a problem document. */
export function problemNotFoundHandler (request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply.code(404).type('application/problem+json')
    .send(problem('about:blank', 404, 'There is nothing here', 'MARTY_CORE_NOT_FOUND', pathOf(request.url), request.id))
}

function problem (
  type: string,
  status: number,
  detail: string,
  code: string,
  instance: string,
  requestId: string,
  data: Readonly<Record<string, unknown>> = {}
): Problem {
  return {
    ...data,
    type,
    title: STATUS_CODES[status] ?? 'Error',
    status,
    detail,
    instance,
    code,
    request_id: requestId
  }
}

/** Query strings may contain tokens and must not be repeated in a response. */
function pathOf (url: string): string {
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query)
}
