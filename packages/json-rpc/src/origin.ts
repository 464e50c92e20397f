import type { FastifyRequest } from 'fastify'
import { OriginRefused } from './errors.js'
import type { ResolvedOptions } from './options.js'

/**
 * Browsers send the origin of the page with every WebSocket handshake and every cross-origin POST, and pages cannot
 * forge it. A request without an origin does not come from a browser page.
 */
export function assertOriginAllowed (request: FastifyRequest, options: ResolvedOptions): void {
  const { origin } = request.headers
  if (origin === undefined || options.allowedOrigins.includes(origin)) return
  if (
    options.sameOrigin &&
    /^https?:\/\//.test(origin) &&
    request.host !== '' &&
    origin.slice(origin.indexOf('://') + 3) === request.host.toLowerCase()
  ) {
    return
  }
  throw new OriginRefused()
}
