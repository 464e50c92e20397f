import type { IncomingMessage, ServerResponse } from 'node:http'
import helmet, { type HelmetOptions } from 'helmet'
import { API_POLICY, PAGE_POLICY, type ContentSecurityPolicy } from './content-security-policy.js'
import { optionInvalid, type HeaderOverrides, type ResolvedOptions } from './options.js'
import { permissionsPolicy } from './permissions.js'

export type HeaderList = ReadonlyArray<readonly [name: string, value: string]>

type Hsts = NonNullable<HelmetOptions['strictTransportSecurity']>

/** The headers of every response, computed once: for requests over https, and for all others. */
export interface HeaderSet {
  readonly plain: HeaderList
  readonly secure: HeaderList
}

/** The overrides of one route. */
interface RouteOverrides extends HeaderOverrides {
  readonly url: string
}

export function createHeaderSet (options: ResolvedOptions, route: RouteOverrides | null = null): HeaderSet {
  const policy = { ...(options.api ? API_POLICY : PAGE_POLICY), ...options.csp, ...route?.csp }
  const permissions = permissionsPolicy({ ...options.permissions, ...route?.permissions })
  const production = options.environment === 'production'
  // Browsers ignore HSTS over http (RFC 6797 section 8.1). `upgrade-insecure-requests` over http would break a page
  // that is not available over https.
  const hsts: Hsts = options.hsts === false || !production
    ? false
    : { maxAge: options.hsts.maxAgeSeconds, includeSubDomains: true, preload: options.hsts.preload }
  const upgraded: ContentSecurityPolicy = production ? { 'upgrade-insecure-requests': [], ...policy } : policy
  try {
    return {
      plain: [...fields(policy, false), ['permissions-policy', permissions]],
      secure: [...fields(upgraded, hsts), ['permissions-policy', permissions]]
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw optionInvalid('csp', `is refused: ${reason}`, route?.url)
  }
}

/** The headers that helmet would send. They do not depend on the request, so helmet runs once, against a recorder. */
function fields (policy: ContentSecurityPolicy, strictTransportSecurity: Hsts): HeaderList {
  const recorded: Array<readonly [string, string]> = []
  const recorder = {
    setHeader (name: string, value: string) { recorded.push([name.toLowerCase(), value]) },
    removeHeader () {}
  }
  const directives = Object.entries(policy).filter((entry): entry is [string, readonly string[]] =>
    Array.isArray(entry[1])
  )
  const apply = helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: Object.fromEntries(directives.map(([name, sources]) => [name, [...sources]]))
    },
    strictTransportSecurity,
    xFrameOptions: frameOptions(policy['frame-ancestors']),
    referrerPolicy: { policy: 'no-referrer' }
  })
  apply({} as IncomingMessage, recorder as unknown as ServerResponse, error => { if (error !== undefined) throw error })
  return recorded
}

/** `X-Frame-Options`, for browsers without `frame-ancestors`. Omitted when it cannot express the same policy. */
function frameOptions (ancestors: readonly string[] | null | undefined): NonNullable<HelmetOptions['xFrameOptions']> {
  const only = ancestors?.length === 1 ? ancestors[0] : undefined
  if (only === "'none'") return { action: 'deny' }
  return only === "'self'" ? { action: 'sameorigin' } : false
}
