import type { FastifyRequest } from 'fastify'
import { redactText, redactUrl, REDACTED } from './redact.js'

/** What a log line contains of a request. */
export type SerializedRequest = {
  readonly method: string
  readonly url: string
  readonly host: string
  readonly remoteAddress: string
}

/** What a log line contains of an error. */
export type SerializedError = {
  readonly type: string
  readonly message: string
  readonly code: string | undefined
  readonly statusCode: number | undefined
  readonly stack: string
}

/** Serializers for pino, in the form Fastify's logger expects, that write no secrets. */
export type SecretFreeSerializers = {
  /** Without headers and without the values of the query. */
  readonly req: (request: FastifyRequest) => SerializedRequest
  readonly res: (reply: { readonly statusCode: number }) => { readonly statusCode: number }
  readonly err: (error: Error & { readonly code?: string, readonly statusCode?: number }) => SerializedError
}

export const secretFreeSerializers: SecretFreeSerializers = {
  req: request => ({
    method: request.method,
    url: redactUrl(request.url ?? ''),
    host: request.host,
    remoteAddress: request.ip
  }),
  res: ({ statusCode }) => ({ statusCode }),
  err: error => ({
    type: error.name,
    message: redactText(error.message ?? ''),
    code: error.code,
    statusCode: error.statusCode,
    stack: redactText(error.stack ?? '')
  })
}

/** Members that hold secrets, redacted at the top level of a logged object and one level below. */
const SECRET_MEMBERS = [
  'authorization', '["proxy-authorization"]', 'cookie', '["set-cookie"]', '["x-api-key"]', 'password', 'passphrase',
  'secret', 'token', 'accessToken', 'refreshToken', 'access_token', 'refresh_token', 'id_token', 'client_secret',
  'apiKey', 'api_key', 'privateKey', 'private_key'
]

export interface SecretFreeLoggerOptions {
  readonly serializers: SecretFreeSerializers
  readonly redact: { readonly paths: string[], readonly censor: string }
  readonly hooks: { logMethod (this: unknown, args: unknown[], method: (...args: unknown[]) => void): void }
}

/**
 * Options for Fastify's logger that keep secrets out of the log: in headers, URLs, errors, messages, and members with
 * secret names. Functions that you pass to the logger itself (`formatters`, `mixin`) are not covered.
 *
 * @example
 * const app = Fastify({ logger: { level: 'info', ...loggerOptions() } })
 */
export function loggerOptions (): SecretFreeLoggerOptions {
  const paths = SECRET_MEMBERS.flatMap(member => {
    const under = (parent: string): string => member.startsWith('[') ? `${parent}${member}` : `${parent}.${member}`
    return [member, under('*'), under('*.headers')]
  })
  return {
    serializers: secretFreeSerializers,
    redact: { paths, censor: REDACTED },
    hooks: {
      logMethod (args, method) {
        const [first, message] = args
        const error = first instanceof Error ? first : (first as { readonly err?: unknown } | null | undefined)?.err
        // Pino uses the error's message when the line has no message, so pass a redacted one.
        const all = message === undefined && error instanceof Error ? [first, error.message] : args
        method.apply(this, all.map(arg => typeof arg === 'string' ? redactText(arg) : arg))
      }
    }
  }
}
