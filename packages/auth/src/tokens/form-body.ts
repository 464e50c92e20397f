import type { FastifyInstance, FastifyRequest } from 'fastify'
import { AuthRequestMalformed } from '../errors.js'

const MAX_BODY_BYTES = 16 * 1024

/** Lets the routes of this scope be asked with a form, as OAuth clients do (RFC 6749 appendix B), besides JSON. */
export function acceptForms (scope: FastifyInstance): void {
  if (scope.hasContentTypeParser('application/x-www-form-urlencoded')) return
  scope.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: MAX_BODY_BYTES },
    (_request, text, done) => {
      const parameters: Record<string, string> = Object.create(null)
      for (const [name, value] of new URLSearchParams(text as string)) {
        // RFC 6749 section 3.2: a parameter must not be there twice.
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

/** One parameter of the body; null when it is not there. Throws `MARTY_AUTH_BODY_INVALID` when it is not a text. */
export function optionalParameter (request: FastifyRequest, name: string): string | null {
  const { body } = request
  if (body === undefined || body === null) return null
  if (typeof body !== 'object' || Array.isArray(body)) {
    throw new AuthRequestMalformed('The body must be a JSON object or a form')
  }
  const value = Object.hasOwn(body, name) ? (body as Record<string, unknown>)[name] : undefined
  // RFC 6749 section 3.1: a parameter without a value is one that was left out.
  if (value === undefined || value === null || value === '') return null
  if (typeof value !== 'string') throw new AuthRequestMalformed(`"${name}" must be a text`)
  return value
}

/** The same for a parameter that must be there. */
export function requiredParameter (request: FastifyRequest, name: string): string {
  const value = optionalParameter(request, name)
  if (value === null) throw new AuthRequestMalformed(`"${name}" is missing`)
  return value
}
