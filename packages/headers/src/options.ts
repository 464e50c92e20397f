import { closest } from '@marty/core'
import { DIRECTIVES, type ContentSecurityPolicy } from './content-security-policy.js'
import { OptionInvalid } from './errors.js'
import { FEATURES, type Permissions } from './permissions.js'

export type Environment = 'development' | 'testing' | 'staging' | 'production'

/**
 * Options that a route can override in `config.headers`. They are merged, member by member, over those of the plugin.
 */
export interface HeaderOverrides {
  /** Directives that replace or extend those of the base policy. Write keywords with their single quotes. */
  readonly csp?: ContentSecurityPolicy
  /** Browser features to allow. @default none */
  readonly permissions?: Permissions
}

export interface HeadersOptions extends HeaderOverrides {
  /** Required, because a wrong guess would be dangerous: only `production` makes browsers insist on https. */
  readonly environment: Environment
  /** Use the base policy for data (`default-src 'none'`); `false` uses the one for pages. @default true */
  readonly api?: boolean
  /** Other origins that may read responses. @default none */
  readonly cors?: CorsOptions
  /**
   * Strict-Transport-Security, sent only in production and over https. Set it to `false` when a proxy sends it.
   * @default { maxAgeSeconds: 63072000 }
   */
  readonly hsts?: false | HstsOptions
}

export interface CorsOptions {
  /** Exact origins, such as `https://app.example.org`; no wildcards or patterns. */
  readonly origins: readonly string[]
  /** @default ['GET', 'HEAD', 'POST'] */
  readonly methods?: readonly string[]
  /** Request headers a page may send. @default ['authorization', 'content-type'] */
  readonly headers?: readonly string[]
  /** Response headers a page may read. @default ['ratelimit', 'ratelimit-policy', 'retry-after'] */
  readonly exposedHeaders?: readonly string[]
  /** Whether requests may include cookies. @default false */
  readonly credentials?: boolean
  /** How long browsers may cache a preflight response, in seconds, at most 7200. @default 600 */
  readonly maxAge?: number
}

export interface HstsOptions {
  /** In seconds, at least two years, as preload lists require. @default 63072000 */
  readonly maxAgeSeconds?: number
  /** Consent to being added to the preload lists of browsers. @default false */
  readonly preload?: boolean
}

export interface ResolvedOptions {
  readonly environment: Environment
  readonly api: boolean
  readonly csp: ContentSecurityPolicy
  readonly permissions: Permissions
  readonly cors: Required<CorsOptions> | null
  readonly hsts: Required<HstsOptions> | null
}

const ENVIRONMENTS: readonly Environment[] = ['development', 'testing', 'staging', 'production']
const TWO_YEARS_S = 63_072_000
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/

export function resolveOptions (options: HeadersOptions): ResolvedOptions {
  knownKeys('', options, ['environment', 'api', 'cors', 'csp', 'permissions', 'hsts'])
  const { environment, api = true, cors, csp = {}, permissions = {}, hsts = {} } = options
  if (!ENVIRONMENTS.includes(environment)) {
    throw invalid(
      'environment',
      `is "${String(environment)}"; it must be one of ` +
        `${ENVIRONMENTS.join(', ')}${didYouMean(String(environment), ENVIRONMENTS)}`
    )
  }
  if (typeof api !== 'boolean') throw invalid('api', 'must be true or false')
  verifyOverrides('', { csp, permissions })
  return Object.freeze({
    environment,
    api,
    csp,
    permissions,
    cors: cors === undefined ? null : resolveCors(cors),
    hsts: hsts === false ? null : resolveHsts(hsts)
  })
}

/** Refuses values that make a browser ignore a directive or feature, in the options of the plugin or of a route. */
export function verifyOverrides (where: string, overrides: HeaderOverrides): void {
  knownKeys(where, overrides, ['csp', 'permissions'])
  const { csp = {}, permissions = {} } = overrides
  knownKeys(`${where}csp.`, csp, DIRECTIVES)
  for (const [directive, sources] of Object.entries(csp)) {
    if (sources !== null) {
      strings(
        `${where}csp.${directive}`,
        sources,
        source => /^[^\s;,]+$/.test(source),
        'a source without spaces, ";" or ","'
      )
    }
  }
  knownKeys(`${where}permissions.`, permissions, FEATURES)
  for (const [feature, who] of Object.entries(permissions)) {
    strings(
      `${where}permissions.${feature}`,
      who,
      value => value === 'self' || isOrigin(value),
      '"self" or an exact origin'
    )
  }
}

export function invalid (field: string, message: string): Error {
  return new OptionInvalid(`headers: ${field} ${message}`)
}

function resolveCors (cors: CorsOptions): Required<CorsOptions> {
  knownKeys('cors.', cors, ['origins', 'methods', 'headers', 'exposedHeaders', 'credentials', 'maxAge'])
  const {
    origins, methods = ['GET', 'HEAD', 'POST'], headers = ['authorization', 'content-type'],
    exposedHeaders = ['ratelimit', 'ratelimit-policy', 'retry-after'], credentials = false, maxAge = 600
  } = cors
  strings(
    'cors.origins',
    origins,
    isOrigin,
    'an exact origin such as "https://app.example.org": scheme, host and port, nothing after'
  )
  strings('cors.methods', methods, method => /^[A-Z]+$/.test(method), 'a method in capitals')
  // With credentials, browsers take "*" literally; without credentials, it would allow every header.
  strings('cors.headers', headers, header => TOKEN.test(header) && header !== '*', 'a header name')
  strings('cors.exposedHeaders', exposedHeaders, header => TOKEN.test(header) && header !== '*', 'a header name')
  if (typeof credentials !== 'boolean') throw invalid('cors.credentials', 'must be true or false')
  if (!Number.isSafeInteger(maxAge) || maxAge < 0 || maxAge > 7200) {
    throw invalid('cors.maxAge', `must be an integer from 0 to 7200 seconds, not ${String(maxAge)}`)
  }
  return Object.freeze({ origins, methods, headers, exposedHeaders, credentials, maxAge })
}

function resolveHsts (hsts: HstsOptions): Required<HstsOptions> {
  knownKeys('hsts.', hsts, ['maxAgeSeconds', 'preload'])
  const { maxAgeSeconds = TWO_YEARS_S, preload = false } = hsts
  if (!Number.isSafeInteger(maxAgeSeconds) || maxAgeSeconds < TWO_YEARS_S) {
    throw invalid(
      'hsts.maxAgeSeconds',
      `must be an integer of at least ${TWO_YEARS_S} (two years), not ${String(maxAgeSeconds)}`
    )
  }
  if (typeof preload !== 'boolean') throw invalid('hsts.preload', 'must be true or false')
  return Object.freeze({ maxAgeSeconds, preload })
}

/**
 * Origins are compared as strings, so they must be written exactly as browsers send them. The URL parser accepts `*` as
 * a host, so it is refused separately.
 */
function isOrigin (value: string): boolean {
  return URL.canParse(value) && new URL(value).origin === value && !value.includes('*')
}

function strings (field: string, list: unknown, accepts: (value: string) => boolean, what: string): void {
  if (!Array.isArray(list)) throw invalid(field, `must be a list, each ${what}`)
  for (const value of list as unknown[]) {
    if (typeof value !== 'string' || !accepts(value)) {
      throw invalid(field, `has ${JSON.stringify(value)}, which is not ${what}`)
    }
  }
}

function knownKeys (prefix: string, value: object, known: readonly string[]): void {
  if (typeof value !== 'object' || value === null) throw invalid(prefix.slice(0, -1) || 'options', 'must be an object')
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) throw invalid(`${prefix}${key}`, `is not known${didYouMean(key, known)}`)
  }
}

function didYouMean (word: string, candidates: readonly string[]): string {
  const near = closest(word, candidates)
  return near === null ? '' : `; did you mean "${near}"?`
}
