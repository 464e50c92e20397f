import { checkOptions, optionsInvalid, ORIGIN, type ItemSpec, type OptionScope, type OptionTable } from '@marty/core'
import { DIRECTIVES, type ContentSecurityPolicy } from './content-security-policy.js'
import { HeadersOptionInvalid } from './errors.js'
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
  /** How long browsers may cache a preflight response, at most 7200. Seconds. @default 600 */
  readonly maxAgeSeconds?: number
}

export interface HstsOptions {
  /** At least two years, as preload lists require. Seconds. @default 63072000 */
  readonly maxAgeSeconds?: number
  /** Consent to being added to the preload lists of browsers. @default false */
  readonly preload?: boolean
}

export interface ResolvedOptions {
  readonly environment: Environment
  readonly api: boolean
  readonly csp: ContentSecurityPolicy
  readonly permissions: Permissions
  readonly cors?: Required<CorsOptions>
  readonly hsts: false | Required<HstsOptions>
}

const TWO_YEARS_SECONDS = 63_072_000
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/

// With credentials, browsers take "*" literally; without credentials, it would allow every header.
const HEADER_NAME: ItemSpec<string> = {
  kind: 'string',
  pattern: { test: name => TOKEN.test(name) && name !== '*' },
  expected: 'the name of a header, not "*"'
}

const OVERRIDES: OptionTable<HeaderOverrides> = {
  csp: {
    kind: 'record',
    names: DIRECTIVES,
    values: {
      kind: 'list',
      or: [null],
      items: { kind: 'string', pattern: /^[^\s;,]+$/, expected: 'a source without spaces, ";" or ","' }
    },
    default: {},
    defaultText: 'the base policy',
    about: 'Directives that replace or extend the base policy; `null` removes one.'
  },
  permissions: {
    kind: 'record',
    names: FEATURES,
    values: { kind: 'list', items: { ...ORIGIN, or: ['self'] } },
    default: {},
    defaultText: 'none',
    about: 'Browser features to allow.'
  }
}

const CORS: OptionTable<CorsOptions> = {
  origins: { kind: 'list', items: ORIGIN, about: 'The origins whose pages may read responses.' },
  methods: {
    kind: 'list',
    items: { kind: 'string', pattern: /^[A-Z]+$/, expected: 'a method in capitals' },
    default: ['GET', 'HEAD', 'POST'],
    about: 'Methods that a page may use.'
  },
  headers: {
    kind: 'list',
    items: HEADER_NAME,
    default: ['authorization', 'content-type'],
    about: 'Request headers that a page may send.'
  },
  exposedHeaders: {
    kind: 'list',
    items: HEADER_NAME,
    default: ['ratelimit', 'ratelimit-policy', 'retry-after'],
    about: 'Response headers that a page may read.'
  },
  credentials: { kind: 'boolean', default: false, about: 'Whether requests may include cookies.' },
  maxAgeSeconds: {
    kind: 'integer', min: 0, max: 7200, default: 600, about: 'How long browsers may cache a preflight response.'
  }
}

const HSTS: OptionTable<HstsOptions> = {
  maxAgeSeconds: {
    kind: 'integer',
    min: TWO_YEARS_SECONDS,
    default: TWO_YEARS_SECONDS,
    about: 'At least two years, as the preload lists of browsers require.'
  },
  preload: { kind: 'boolean', default: false, about: 'Consent to being added to the preload lists of browsers.' }
}

export const OPTIONS: OptionTable<HeadersOptions, ResolvedOptions> = {
  environment: {
    kind: 'choice',
    choices: ['development', 'testing', 'staging', 'production'],
    about: 'Where the service runs. Only `production` makes browsers insist on https.'
  },
  api: {
    kind: 'boolean',
    default: true,
    about: "Use the base policy for data, `default-src 'none'`; `false` uses the one for pages, `'self'`."
  },
  ...OVERRIDES,
  hsts: {
    kind: 'object',
    or: [false],
    options: HSTS,
    default: {},
    defaultText: 'two years, without preload',
    about: 'Strict-Transport-Security, sent only in production and over https; `false` when a proxy sends it.'
  },
  cors: { kind: 'object', options: CORS, optional: true, about: 'Opens responses to pages of other origins.' }
}

const PLUGIN: OptionScope = { subject: 'headers', refuse: message => new HeadersOptionInvalid(message), isPlugin: true }

/** Checks the options and fills in the defaults. Throws `MARTY_HEADERS_OPT_INVALID`. */
export function resolveOptions (options: HeadersOptions): ResolvedOptions {
  return checkOptions(OPTIONS, options, PLUGIN)
}

/** Refuses values in `config.headers` of a route that would make a browser ignore a directive or feature. */
export function resolveOverrides (url: string, overrides: HeaderOverrides): Required<HeaderOverrides> {
  return checkOptions(OVERRIDES, overrides, routeScope(url))
}

/** Creates the error for one option: of the plugin, or of the route with this URL. */
export function optionInvalid (field: string, problem: string, url: string | null = null): Error {
  return optionsInvalid(url === null ? PLUGIN : routeScope(url), [{ field, problem }])
}

function routeScope (url: string): OptionScope {
  return { ...PLUGIN, subject: `route ${url}: headers`, isPlugin: false }
}
