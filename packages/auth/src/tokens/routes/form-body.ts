import type { FastifyInstance, FastifyRequest } from 'fastify'
import { AuthRequestMalformed } from '../../errors.js'

const MAX_BODY_BYTES = 16 * 1024

/**
 * Makes the routes of this scope accept form bodies, as OAuth clients send them (RFC 6749 appendix B),
 * in addition to JSON.
 */
export function acceptForms (scope: FastifyInstance): void {
  if (scope.hasContentTypeParser('application/x-www-form-urlencoded')) return
  scope.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: MAX_BODY_BYTES },
    (_request, text, done) => {
      const parameters: Record<string, string> = Object.create(null)
      for (const [name, value] of new URLSearchParams(text as string)) {
        // RFC 6749 section 3.2: a parameter must not occur twice.
        if (name in parameters) {
          done(new AuthRequestMalformed(`"${name.slice(0, 40)}" is given twice`))
          return
        }
        parameters[name] = value
      }
      done(null, parameters)
    }
  )
}

/**
 * Returns one parameter of the body; null when it is missing. Throws `MARTY_AUTH_BODY_INVALID` when it
 * is not a string.
 */
export function optionalParameter (request: FastifyRequest, name: string): string | null {
  const { body } = request
  if (body === undefined || body === null) return null
  if (typeof body !== 'object' || Array.isArray(body)) {
    throw new AuthRequestMalformed('The body must be a JSON object or a form')
  }
  const value = Object.hasOwn(body, name) ? (body as Record<string, unknown>)[name] : undefined
  // RFC 6749 section 3.1: a parameter without a value counts as omitted.
  if (value === undefined || value === null || value === '') return null
  if (typeof value !== 'string') throw new AuthRequestMalformed(`"${name}" must be a string`)
  return value
}

/** Like `optionalParameter`, but throws when the parameter is missing. */
export function requiredParameter (request: FastifyRequest, name: string): string {
  const value = optionalParameter(request, name)
  if (value === null) throw new AuthRequestMalformed(`"${name}" is missing`)
  return value
}
