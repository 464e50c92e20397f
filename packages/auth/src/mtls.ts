import type { Authenticator, Principal } from '@marty/core'
import { X509Certificate } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { AuthOptionInvalid } from './errors.js'
import { refused } from './refused.js'

/** What a service may do that presents a certificate with a certain name. */
export interface MtlsService {
  readonly roles: readonly string[]
  /** @default [] */
  readonly scopes?: readonly string[]
}

export interface MtlsOptions {
  /**
   * The services that are let in, each by the one URI in its certificate's subject alternative names, compared as it is
   * written: `{ 'spiffe://prod/ns/cameras/sa/recorder': { roles: ['operator'] } }`.
   */
  readonly allow: Readonly<Record<string, MtlsService>>
}

/** `id-kp-clientAuth` of RFC 5280 section 4.2.1.12. */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

/**
 * Lets services in by the client certificate of their TLS connection, whose chain the server has verified: it needs `ca`
 * and `requestCert` in its TLS options. A certificate is the connection's, not the request's: a credential in a header is
 * asked first, and a certificate without an allowed URI never makes a principal, so a person's certificate in a
 * browser is none.
 *
 * @throws `MARTY_AUTH_OPT_INVALID`
 */
export function mtlsAuthenticator (options: MtlsOptions): Authenticator {
  const allowed = resolveAllowed(options)
  // The same for every request of a connection.
  const principals = new WeakMap<TLSSocket, Principal | null>()

  const principalOf = (socket: TLSSocket): Principal | null => {
    let principal = principals.get(socket)
    if (principal === undefined) {
      const certificate = socket.getPeerX509Certificate()
      principal = certificate === undefined || !socket.authorized ? null : principalOfCertificate(certificate, allowed)
      principals.set(socket, principal)
    }
    return principal
  }
  const isNow = (principal: Principal): boolean => principal.expiresAt! > Date.now()

  return {
    method: 'mtls',
    find: request => certificateSocket(request) === null ? null : 'client certificate',
    accepts: () => false,
    authenticate (_token, { request }) {
      const principal = principalOf(certificateSocket(request!)!)
      if (principal === null || !isNow(principal)) throw refused()
      return principal
    }
  }
}

/** The connection of a request that presented any certificate. */
function certificateSocket ({ socket }: IncomingMessage): TLSSocket | null {
  const tls = socket as Partial<TLSSocket> | null | undefined
  return typeof tls?.getPeerX509Certificate === 'function' && tls.getPeerX509Certificate() !== undefined ? tls as TLSSocket : null
}

function principalOfCertificate (certificate: X509Certificate, allowed: ReadonlyMap<string, MtlsService>): Principal | null {
  // A certificate for nothing in particular is none for this.
  if (!(certificate.keyUsage as readonly string[] | undefined)?.includes(CLIENT_AUTH)) return null
  const uris = urisOf(certificate.subjectAltName)
  const service = uris.length === 1 ? allowed.get(uris[0]!) : undefined
  const notBefore = Date.parse(certificate.validFrom)
  const expiresAt = Date.parse(certificate.validTo)
  if (service === undefined || !(notBefore <= Date.now()) || Number.isNaN(expiresAt)) return null
  return Object.freeze({
    id: uris[0]!,
    kind: 'service',
    roles: service.roles,
    scopes: service.scopes ?? [],
    session: certificate.fingerprint256,
    claims: Object.freeze({ subject: certificate.subject, issuer: certificate.issuer, serial_number: certificate.serialNumber }),
    authenticatedBy: 'mtls',
    expiresAt
  })
}

/** The URIs among the names. Node quotes names with special characters as JSON, so a comma in one makes no second name. */
function urisOf (names: string | undefined): readonly string[] {
  return [...(names ?? '').matchAll(/(?:^|, )URI:("(?:[^"\\]|\\.)*"|[^,]*)/g)].map(([, value = '']) => value.startsWith('"') ? JSON.parse(value) as string : value)
}

function resolveAllowed (options: MtlsOptions): ReadonlyMap<string, MtlsService> {
  const { allow } = options ?? {}
  if (typeof allow !== 'object' || allow === null || Array.isArray(allow) || Object.keys(allow).length === 0) {
    throw new AuthOptionInvalid('auth option "mtls.allow" must be an object of URIs with their roles, with at least one')
  }
  const isNames = (value: unknown): boolean => Array.isArray(value) && value.every(name => typeof name === 'string' && name !== '')
  return new Map(Object.entries(allow).map(([uri, service]) => {
    if (!/^[a-z][a-z0-9+.-]*:\S+$/i.test(uri)) throw new AuthOptionInvalid(`auth option "mtls.allow" names "${uri}", which is not a URI; patterns are not known`)
    const { roles, scopes = [] } = service ?? {}
    if (!isNames(roles) || !isNames(scopes)) throw new AuthOptionInvalid(`auth option "mtls.allow['${uri}']" must be { roles: [...], scopes: [...] }, lists of names`)
    return [uri, Object.freeze({ roles: Object.freeze([...roles]), scopes: Object.freeze([...scopes]) })]
  }))
}
