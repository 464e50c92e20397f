import type { FastifyRequest } from 'fastify'
import { OriginRefused } from './errors.js'
import type { ResolvedOptions } from './options.js'

/**
 * Browsers send the page's origin with every WebSocket handshake and cross-origin POST, and pages cannot forge it.
 * A caller without one is no browser page.
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
