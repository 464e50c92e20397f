import { CredentialInvalid, type Authenticator, type Principal } from '@marty/core'
import type { X509Certificate } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { credentialsOf } from '../credentials.js'
import { servicesOf, type MtlsOptions, type MtlsService } from './options.js'

type Accepted = Principal & { readonly expiresAt: number }

/** `id-kp-clientAuth` (RFC 5280 section 4.2.1.12). */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

/**
 * Authenticates services by the client certificate of their TLS connection. The certificate's single
 * SAN URI names the service (SPIFFE X.509-SVID). If a request also has a credential in its headers,
 * only that credential counts: an explicit credential takes precedence over an implicit one.
 *
 * @throws `MARTY_AUTH_OPT_INVALID`
 */
export function createMtlsAuthenticator (options: MtlsOptions): Authenticator {
  const services = servicesOf(options)
  /** Caches the result for each connection; null means no certificate. */
  const judged = new WeakMap<TLSSocket, Accepted | 'refused' | null>()

  function judge (socket: TLSSocket): Accepted | 'refused' | null {
    try {
      const certificate = socket.getPeerX509Certificate()
      if (certificate === undefined) return null
      return (socket.authorized ? accept(certificate, services) : null) ?? 'refused'
    } catch {
      return 'refused'
    }
  }

  function offered ({ socket }: IncomingMessage): Accepted | 'refused' | null {
    if (!isTls(socket)) return null
    let judgement = judged.get(socket)
    if (judgement === undefined) judged.set(socket, judgement = judge(socket))
    return judgement
  }

  return {
    method: 'mtls',
    unguessable: true,
    find (request) {
      const { bearer, apiKey } = credentialsOf(request)
      return bearer === null && apiKey === null && offered(request) !== null ? 'certificate' : null
    },
    accepts: () => false,
    authenticate (token, { request }) {
      const principal = request == null ? null : offered(request)
      // Check the expiry on every request: a connection or a resumed TLS session can outlive the
      // certificate.
      if (principal === null || principal === 'refused' || principal.expiresAt <= Date.now()) {
        throw new CredentialInvalid({ reason: 'certificate' })
      }
      return principal
    }
  }
}

function isTls (socket: unknown): socket is TLSSocket {
  return typeof (socket as Partial<TLSSocket> | null | undefined)?.getPeerX509Certificate === 'function'
}

function accept (certificate: X509Certificate, services: ReadonlyMap<string, MtlsService>): Accepted | null {
  const { ca, keyUsage, subjectAltName = '', subject, issuer, serialNumber, fingerprint256 } = certificate
  if (ca || !keyUsage?.includes(CLIENT_AUTH)) return null
  const uri = onlyUriOf(subjectAltName)
  const service = uri === null ? undefined : services.get(uri)
  if (uri === null || service === undefined) return null
  return Object.freeze({
    id: uri,
    kind: 'service',
    roles: Object.freeze([...service.roles]),
    scopes: Object.freeze([...service.scopes ?? []]),
    session: fingerprint256,
    claims: Object.freeze({ subject: oneLine(subject), issuer: oneLine(issuer), serial_number: serialNumber }),
    authenticatedBy: 'mtls',
    expiresAt: Date.parse(certificate.validTo)
  })
}

function oneLine (name: string): string {
  return name.replaceAll('\n', ', ')
}

/**
 * Node prints `URI:a, DNS:b`. It puts a name that contains a comma in quotes and escapes the comma, so
 * one name cannot be mistaken for two.
 */
function onlyUriOf (subjectAltName: string): string | null {
  const [uri, second] = subjectAltName.split(', ').filter(name => name.startsWith('URI:'))
  return uri === undefined || second !== undefined ? null : uri.slice('URI:'.length)
}
