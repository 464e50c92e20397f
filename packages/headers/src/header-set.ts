import type { FastifyHelmetOptions } from '@fastify/helmet'
import { API_POLICY, PAGE_POLICY, type ContentSecurityPolicy } from './content-security-policy.js'
import type { HelmetHeaders } from './helmet.js'
import { fixedHeaders, type FixedHeaders } from './late-headers.js'
import { optionInvalid, type HeaderOverrides, type ResolvedOptions } from './options.js'
import { permissionsPolicy } from './permissions.js'

type Hsts = NonNullable<FastifyHelmetOptions['strictTransportSecurity']>
type FrameOptions = NonNullable<FastifyHelmetOptions['xFrameOptions']>

/** The headers of every response, computed once: for requests over https, and for all others. */
export interface HeaderSet {
  readonly plain: FixedHeaders
  readonly secure: FixedHeaders
}

/** The overrides of one route. */
interface RouteOverrides extends HeaderOverrides {
  readonly url: string
}

export function createHeaderSet (
  headersOf: HelmetHeaders,
  options: ResolvedOptions,
  route: RouteOverrides | null = null
): HeaderSet {
  const permissions = permissionsPolicy({ ...options.permissions, ...route?.permissions })
  try {
    return {
      plain: fixedHeaders([...headersOf(helmetOptions(options, false, route?.csp)), ['permissions-policy', permissions]]),
      secure: fixedHeaders([...headersOf(helmetOptions(options, true, route?.csp)), ['permissions-policy', permissions]])
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw optionInvalid('csp', `is refused: ${reason}`, route?.url)
  }
}

/**
 * Headers that concern only pages, in browsers that are gone or without effect on data: files opened by Internet
 * Explorer 8, Flash, the XSS filter that browsers had until 2020, and DNS lookups of links.
 */
const WITHOUT_PAGE_HEADERS = {
  xDownloadOptions: false,
  xPermittedCrossDomainPolicies: false,
  xXssProtection: false,
  xDnsPrefetchControl: false
} as const

/** Our options in helmet's terms, for responses over https or for all others. */
export function helmetOptions (
  options: ResolvedOptions,
  isSecure: boolean,
  csp: ContentSecurityPolicy = {}
): FastifyHelmetOptions {
  // Browsers ignore HSTS over http (RFC 6797 section 8.1). `upgrade-insecure-requests` over http would break a page
  // that is not available over https.
  const upgrades = isSecure && options.environment === 'production'
  const hsts: Hsts = options.hsts === false || !upgrades
    ? false
    : { maxAge: options.hsts.maxAgeSeconds, includeSubDomains: true, preload: options.hsts.preload }
  const policy: ContentSecurityPolicy = {
    ...(upgrades ? { 'upgrade-insecure-requests': [] } : {}),
    ...(options.api ? API_POLICY : PAGE_POLICY),
    ...options.csp,
    ...csp
  }
  const directives = Object.entries(policy).filter((entry): entry is [string, readonly string[]] =>
    Array.isArray(entry[1])
  )
  return {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: Object.fromEntries(directives.map(([name, sources]) => [name, [...sources]]))
    },
    strictTransportSecurity: hsts,
    xFrameOptions: frameOptions(policy['frame-ancestors']),
    referrerPolicy: { policy: 'no-referrer' },
    ...(options.api ? WITHOUT_PAGE_HEADERS : {})
  }
}

/** `X-Frame-Options`, for browsers without `frame-ancestors`. Omitted when it cannot express the same policy. */
function frameOptions (ancestors: readonly string[] | null | undefined): FrameOptions {
  const only = ancestors?.length === 1 ? ancestors[0] : undefined
  if (only === "'none'") return { action: 'deny' }
  return only === "'self'" ? { action: 'sameorigin' } : false
}
