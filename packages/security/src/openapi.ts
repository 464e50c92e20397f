import type { AuthenticationMethod, SecurityRule } from '@marty/core'
import type { OperationSecurity } from './boot-audit.js'

/** An OpenAPI 3 document, as far as this module reads and writes it. */
export interface OpenApiDocument {
  readonly paths?: Readonly<Record<string, unknown>>
  readonly components?: Readonly<Record<string, unknown>>
}

type Json = Readonly<Record<string, unknown>>

export interface OpenApiOptions {
  readonly report: readonly OperationSecurity[]
  /** The methods that the application offers. */
  readonly methods: readonly AuthenticationMethod[]
  readonly sessionCookie: string | null
}

const HTTP_METHODS = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace']

/**
 * Returns the document with what the enforced rules mean for its operations: `security` with the schemes of the
 * application, the refusals as problem documents (RFC 9457) with their headers, `x-permission`, `x-roles` and
 * `x-rate-limit`. Operations that the application does not have stay as they are.
 */
export function withSecurity<Document extends OpenApiDocument> (document: Document, options: OpenApiOptions): Document {
  const { report, methods, sessionCookie } = options
  const operations = new Map(report.flatMap(operation => namesOf(operation).map(name => [name, operation] as const)))
  const paths = mapValues(document.paths ?? {}, (path, item) => mapValues(item as Json, (method, operation) => {
    if (!HTTP_METHODS.includes(method)) return operation
    const known = operations.get(`${method.toUpperCase()} ${pathPattern(path)}`)
    return known === undefined ? operation : secured(operation as Json, known, methods)
  }))
  const components = {
    ...document.components,
    schemas: { Problem: PROBLEM, ...document.components?.['schemas'] as Json },
    responses: { ...RESPONSES, ...document.components?.['responses'] as Json },
    securitySchemes: { ...schemesOf(methods, sessionCookie), ...document.components?.['securitySchemes'] as Json }
  }
  return { ...document, paths, components }
}

function secured (
  operation: Json,
  { rule, limits = [] }: OperationSecurity,
  offered: readonly AuthenticationMethod[]
): Json {
  const isPublic = rule.public === true
  const asksMore = rule.permission !== undefined || rule.roles !== undefined
  const refusals = {
    ...(isPublic ? {} : { 401: reference('Unauthorized') }),
    ...(asksMore ? { 403: reference('Forbidden') } : {}),
    ...(limits.length === 0 ? {} : { 429: reference('TooManyRequests') })
  }
  return {
    ...operation,
    security: requirementsOf(rule, offered),
    responses: { ...refusals, ...operation['responses'] as Json },
    ...(rule.permission === undefined ? {} : { 'x-permission': rule.permission }),
    ...(rule.roles === undefined ? {} : { 'x-roles': rule.roles }),
    ...(limits.length === 0 ? {} : { 'x-rate-limit': limits })
  }
}

/** One requirement for each method that is accepted; an empty one when no credential is needed. */
function requirementsOf (
  { public: isPublic, authenticate }: SecurityRule,
  offered: readonly AuthenticationMethod[]
): Json[] {
  if (isPublic === true) return []
  const accepted = Array.isArray(authenticate) ? authenticate as readonly AuthenticationMethod[] : offered
  return [...(authenticate === 'optional' ? [{}] : []), ...accepted.map(method => ({ [method]: [] }))]
}

function schemesOf (methods: readonly AuthenticationMethod[], sessionCookie: string | null): Json {
  const schemes: Partial<Record<AuthenticationMethod, Json>> = {
    jwt: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
    apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
    session: sessionCookie === null
      ? { type: 'http', scheme: 'bearer' }
      : { type: 'apiKey', in: 'cookie', name: sessionCookie },
    mtls: { type: 'mutualTLS' }
  }
  return Object.fromEntries(methods.map(method => [method, schemes[method]]))
}

/** `GET,HEAD /a/:b` is the operations `GET /a/{}` and `HEAD /a/{}`. */
function namesOf ({ name, transport }: OperationSecurity): string[] {
  const [methods = '', url] = name.split(' ')
  if (transport !== 'http' || url === undefined) return []
  return methods.split(',').map(method => `${method} ${pathPattern(url)}`)
}

/** Both spellings of a path, Fastify's `/a/:b` and OpenAPI's `/a/{b}`, without the names of the parameters. */
function pathPattern (path: string): string {
  return path.replace(/\{[^}]*\}|:\w+(?:\([^)]*\))?\??|\*/g, '{}')
}

function mapValues (object: Json, change: (key: string, value: unknown) => unknown): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(key, value)]))
}

function reference (name: keyof typeof RESPONSES): Json {
  return { $ref: `#/components/responses/${name}` }
}

const PROBLEM = {
  type: 'object',
  description: 'Problem details (RFC 9457)',
  required: ['type', 'title', 'status', 'detail', 'code'],
  properties: {
    type: { type: 'string', format: 'uri-reference' },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string' },
    instance: { type: 'string' },
    code: { type: 'string', description: 'Stable name of the error' },
    request_id: { type: 'string' }
  }
} as const

const text = { schema: { type: 'string' } } as const
const seconds = { schema: { type: 'integer' }, description: 'Seconds until the same request fits' } as const

const RESPONSES = {
  Unauthorized: problem('No credential, or one that is not valid', { 'WWW-Authenticate': text }),
  Forbidden: problem('The caller may not do this', {}),
  TooManyRequests: problem('A limit is used up', { 'Retry-After': seconds, RateLimit: text, 'RateLimit-Policy': text })
}

function problem (description: string, headers: Json): Json {
  const content = { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } }
  return { description, ...(Object.keys(headers).length === 0 ? {} : { headers }), content }
}
