import { RuleInvalid, type Check } from '@marty/core'
import { timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { CsrfInvalid } from '../errors.js'
import { csrfTokenOf } from './id.js'

/**
 * Looks, before any credential does, at where a request comes from: a page of another site must not use its visitor's
 * credentials up, nor have wrong ones counted against the visitor's address.
 */
export function sameOriginCheck ({ checkOrigin }: CsrfCheck): Check {
  return {
    name: '@marty/auth same origin',
    stage: 'admit',
    keys: ['sameOrigin'],
    compile ({ rule: { sameOrigin } }) {
      if (sameOrigin === undefined) return null
      if (sameOrigin !== true) {
        throw new RuleInvalid('security.sameOrigin can only be true; leave it out to let pages of other origins ask')
      }
      return ({ request }) => { if (request !== null) checkOrigin(request) }
    }
  }
}

/** Refuses what a page of another site may have made the browser send. Both throw `MARTY_AUTH_CSRF_INVALID`. */
export interface CsrfCheck {
  /** For a request whose credential is the session cookie. Safe methods (RFC 9110 section 9.2.1) pass: they change nothing. */
  check (request: IncomingMessage | null | undefined, sessionId: string): void
  /** Whatever the credential: was it a page of ours that caused the request, one of a trusted origin, or no page at all? */
  checkOrigin (request: IncomingMessage): void
  /**
   * For a WebSocket handshake that brings the session cookie. Browsers send it with a handshake that any page begins, and
   * let the page read what comes: it must name its Origin (RFC 6455 section 10.2), which every browser does.
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
      // Pages cannot forge either header. The origin of our own may be `null` (Referrer-Policy) or not `Host` (a proxy).
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
      // The cookie is what another site would use: both headers must say that the page is ours.
      if (!OWN_SITES.includes(site as string | undefined)) throw refused(`${ANOTHER_ORIGIN} (Sec-Fetch-Site)`)
      const isOwn = origin === undefined || isOwnOrigin(request, origin) || trustedOrigins.includes(origin)
      if (!isOwn) throw refused(`${ANOTHER_ORIGIN} (Origin)`)
      if (!isEqual(request.headers['x-csrf-token'], csrfTokenOf(sessionId))) {
        throw refused("it lacks the session's token")
      }
    }
  }
}

/** Also of a test that injects one, which no socket brings. */
export function isHandshake ({ method, headers }: IncomingMessage): boolean {
  return method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket'
}

/** Behind a proxy that ends TLS the scheme is not known here; a connection that is TLS leaves no doubt. */
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
