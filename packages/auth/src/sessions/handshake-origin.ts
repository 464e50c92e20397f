import type { Guard } from '@marty/core'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { isHandshake, type CsrfCheck } from './csrf.js'
import { CsrfInvalid } from '../errors.js'
import type { SessionCookie } from './cookie.js'

/**
 * Checks the `Origin` of every WebSocket handshake with the session cookie, on public routes too,
 * because their handlers may read the session themselves.
 */
export function checkHandshakes (fastify: FastifyInstance, guard: Guard, cookie: SessionCookie, csrf: CsrfCheck): void {
  const check = async (request: FastifyRequest): Promise<void> => {
    if (!isHandshake(request.raw) || cookie.read(request.raw) === null) return
    try {
      csrf.checkHandshake(request.raw)
    } catch (error) {
      const { method, routeOptions: { url }, principal, ip, id } = request
      const reason = CsrfInvalid.definition.code
      void guard.emit({
        type: 'authorization',
        action: `${method} ${url}`,
        outcome: 'denied',
        reason,
        principal,
        address: ip ?? null,
        requestId: id
      })
      throw error
    }
  }
  fastify.addHook('onRoute', route => {
    const { websocket, wsHandler } = route as { websocket?: boolean, wsHandler?: unknown }
    if (websocket === true || wsHandler !== undefined) route.onRequest = [check, ...[route.onRequest ?? []].flat()]
  })
}
