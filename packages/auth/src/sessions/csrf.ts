import { RuleInvalid, type Check } from '@marty/core'
import { timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { CsrfInvalid } from '../errors.js'
import { csrfTokenOf } from './id.js'

/**
 * Checks where a request comes from before any credential is read. A page of another site must not use
 * its visitor's credentials, or cause failed attempts that count against the visitor's address.
 */
export function sameOriginCheck ({ checkOrigin }: CsrfCheck): Check {
  return {
    name: '@marty/auth same origin',
    stage: 'admit',
    keys: ['sameOrigin'],
    compile ({ rule: { sameOrigin } }) {
      if (sameOrigin === undefined) return null
      if (sameOrigin !== true) {
        throw new RuleInvalid('security.sameOrigin can only be true; leave it out to accept requests from pages of other origins')
      }
      return ({ request }) => { if (request !== null) checkOrigin(request) }
    }
  }
}

/**
 * Refuses requests that a page of another site may have made the browser send. Every function throws
 * `MARTY_AUTH_CSRF_INVALID`.
 */
export interface CsrfCheck {
  /**
   * For requests authenticated by the session cookie. Safe methods (RFC 9110 section 9.2.1) pass,
   * because they change nothing.
   */
  check (request: IncomingMessage | null | undefined, sessionId: string): void
  /**
   * For any credential. Passes when a page of this service or of a trusted origin caused the request,
   * or no page at all.
   */
  checkOrigin (request: IncomingMessage): void
  /**
   * For WebSocket handshakes with the session cookie. Any page can open a WebSocket; the browser adds
   * the cookie and lets the page read the messages. The handshake must therefore have an allowed
   * `Origin` (RFC 6455 section 10.2), a header that every browser sends.
   */
  checkHandshake (request: IncomingMessage): void
}

const SAFE_METHODS = ['GET', 'HEAD', 'OPTIONS']
const ANOTHER_ORIGIN = 'it comes from a page of another origin'
const OWN_SITES = [undefined, 'same-origin', 'none']

export function createCsrfCheck (trustedOrigins: readonly string[]): CsrfCheck {
  const checkHandshake = (request: IncomingMessage): void => {
    const { origin } = request.headers
    if (origin !== undefined && (isOwnOrigin(request, origin) || trustedOrigins.includes(origin))) return
    throw new CsrfInvalid(
      'The session cookie does not authorize this WebSocket handshake, because its Origin is ' +
        `${origin === undefined ? 'missing' : 'not this service'}: connect from a page of this service, or of one ` +
        'of "trustedOrigins"'
    )
  }
  return {
    checkOrigin (request) {
      const { origin, 'sec-fetch-site': site } = request.headers
      // Pages cannot forge these headers. Even for the service's own pages, `Origin` may be `null`
      // (Referrer-Policy) or differ from `Host` (a proxy), so `Sec-Fetch-Site: same-origin` is enough.
      if (site === 'same-origin' || (origin !== undefined && trustedOrigins.includes(origin))) return
      if (!OWN_SITES.includes(site as string | undefined)) throw fromElsewhere('Sec-Fetch-Site')
      if (origin !== undefined && !isOwnOrigin(request, origin)) throw fromElsewhere('Origin')
    },
    checkHandshake,
    check (request, sessionId) {
      if (request === null || request === undefined) throw refused('its method is unknown')
      if (isHandshake(request)) {
        checkHandshake(request)
        return
      }
      if (SAFE_METHODS.includes(request.method ?? '')) return
      const { origin, 'sec-fetch-site': site } = request.headers
      // The browser adds the cookie by itself, so here both headers must confirm the origin of the page.
      if (!OWN_SITES.includes(site as string | undefined)) throw refused(`${ANOTHER_ORIGIN} (Sec-Fetch-Site)`)
      const isOwn = origin === undefined || isOwnOrigin(request, origin) || trustedOrigins.includes(origin)
      if (!isOwn) throw refused(`${ANOTHER_ORIGIN} (Origin)`)
      if (!isEqual(request.headers['x-csrf-token'], csrfTokenOf(sessionId))) {
        throw refused("it lacks the session's token")
      }
    }
  }
}

/** Reads only the headers, so that handshakes injected by tests, which have no socket, are recognised too. */
export function isHandshake ({ method, headers }: IncomingMessage): boolean {
  return method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket'
}

/**
 * A proxy may terminate TLS, so on a plain connection both schemes are accepted. On a TLS connection
 * only `https` is.
 */
function isOwnOrigin ({ headers: { host }, socket }: IncomingMessage, origin: string): boolean {
  if (host === undefined || host === '') return false
  const own = host.toLowerCase()
  return (
    origin === `https://${own}` ||
    (origin === `http://${own}` && (socket as Partial<TLSSocket> | undefined)?.encrypted !== true)
  )
}

function isEqual (given: string | string[] | undefined, expected: string): boolean {
  const bytes = Buffer.from(String(given))
  return bytes.length === expected.length && timingSafeEqual(bytes, Buffer.from(expected))
}

function fromElsewhere (header: string): InstanceType<typeof CsrfInvalid> {
  return new CsrfInvalid(`A page of another origin caused this request (${header}); ` +
    'an origin whose pages may do so is named in "trustedOrigins"')
}

function refused (why: string): InstanceType<typeof CsrfInvalid> {
  return new CsrfInvalid(`The session cookie does not authorize this request, because ${why}: ` +
    'send it from a page of this service, with the csrf_token of GET /auth/session in the header X-CSRF-Token')
}
