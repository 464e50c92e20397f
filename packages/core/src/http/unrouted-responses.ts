import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { STATUS_CODES } from 'node:http'
import { ChunkExtensionsTooLarge, HeadersTooLarge, RequestMalformed, RequestTimeout } from '../errors.js'
import type { MartyError } from '../marty-error.js'
import { problemErrorHandler } from './problem.js'
import { logRefusal } from './refusal-log.js'

/** Response headers, for requests over TLS and for requests without. */
export type StandardHeaders = (isSecure: boolean) => ReadonlyArray<readonly [name: string, value: string]>

type Server = FastifyInstance['server']
type Socket = FastifyRequest['raw']['socket']

const standardHeaders = new WeakMap<Server, StandardHeaders>()

/**
 * Sets the headers of responses that do not run through Fastify's hooks: see {@link setClientErrorHandler} and
 * {@link problemServerOptions}.
 */
export function setStandardHeaders (fastify: FastifyInstance, headers: StandardHeaders): void {
  standardHeaders.set(fastify.server, headers)
}

/**
 * Answers what Node could not parse as a request (400, 408, 413, 431) with a problem document and the standard headers.
 * Replaces Fastify's default `clientErrorHandler`, but not one that the application has set.
 */
export function setClientErrorHandler (fastify: FastifyInstance): void {
  const { server } = fastify
  const own = server.listeners('clientError').find(({ name }) => name === 'bound defaultClientErrorHandler')
  if (own === undefined) return
  server.off('clientError', own as () => void)
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    fastify.log.trace({ err: error }, 'client error')
    // A response that has been started cannot be replaced.
    const { _httpMessage: response } = socket as { _httpMessage?: { readonly headersSent: boolean } | null }
    if (error.code === 'ECONNRESET' || !socket.writable || response?.headersSent === true) {
      socket.destroy()
      return
    }
    const refusal = refusalFor(error)
    logRefusal(fastify, fastify.log, refusal)
    socket.write(responseFor(refusal, standardHeaders.get(server)?.('encrypted' in socket) ?? []))
    socket.destroySoon()
  })
}

function refusalFor ({ code }: NodeJS.ErrnoException): MartyError {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT': return new RequestTimeout()
    case 'HPE_HEADER_OVERFLOW': return new HeadersTooLarge()
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW': return new ChunkExtensionsTooLarge()
    default: return new RequestMalformed()
  }
}

/** Without `instance` and `request_id`, because there is no request. */
function responseFor ({ type, statusCode, message, code }: MartyError, headers: ReturnType<StandardHeaders>): string {
  const title = STATUS_CODES[statusCode] ?? 'Error'
  const body = JSON.stringify({ type, title, status: statusCode, detail: message, code })
  const fields = [
    ['connection', 'close'],
    ['content-type', 'application/problem+json; charset=utf-8'],
    ['content-length', String(Buffer.byteLength(body))],
    ...headers
  ]
  return `HTTP/1.1 ${statusCode} ` +
    `${title}\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`
}

const DETAILS: Readonly<Record<string, string>> = {
  FST_ERR_BAD_URL: 'The URL is not validly encoded',
  FST_ERR_MAX_PARAM_LENGTH: 'A part of the URL is too long'
}

/** Fastify's own messages repeat the URL, which may hold values that must not be sent back or logged. */
function handleFrameworkError (error: FastifyError, rawRequest: unknown, rawReply: unknown): void {
  const [request, reply] = [rawRequest as FastifyRequest, rawReply as FastifyReply]
  const fields = standardHeaders.get(request.server.server)?.(request.protocol === 'https') ?? []
  for (const [name, value] of fields) reply.raw.setHeader(name, value)
  const { code, statusCode } = error
  const detail = DETAILS[code]
  problemErrorHandler(detail === undefined ? error : { code, statusCode, message: detail }, request, reply)
}

/**
 * Options for the constructor of Fastify. Its router refuses malformed URLs and overlong parameters itself, before any
 * plugin can answer. With these options, such refusals are problem documents with the standard headers.
 *
 * @example
 * const app = Fastify({ ...problemServerOptions, logger: true })
 */
export const problemServerOptions: {
  // Request and reply are `unknown`, so that the type fits servers with and without TLS.
  readonly frameworkErrors: (error: FastifyError, request: unknown, reply: unknown) => void
} = Object.freeze({ frameworkErrors: handleFrameworkError })
