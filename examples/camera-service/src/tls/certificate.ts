import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { isIP } from 'node:net'
import { createSecureContext } from 'node:tls'

/** Absolute paths of the certificate chain and its key. A path is empty when its setting is empty. */
export interface TlsFiles { readonly certFile: string, readonly keyFile: string }

/** A certificate chain and its key, ready to serve. */
export interface Certificate {
  readonly cert: Buffer
  readonly key: Buffer
  /** The earliest expiry of all certificates in the chain, in milliseconds since the epoch. */
  readonly expiresAt: number
  /** Problems that clients will have although the service can start, as sentences for an operator. */
  readonly warnings: readonly string[]
}

const DAY_MS = 86_400_000
/** Extended key usages (RFC 5280 section 4.2.1.12) that clients require in a server certificate. */
const SERVER_AUTH: ReadonlySet<string> = new Set(['1.3.6.1.5.5.7.3.1', '2.5.29.37.0'])
const STRONG_CURVES: ReadonlySet<string | undefined> = new Set(['prime256v1', 'secp384r1', 'secp521r1'])
const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/**
 * Reads and checks the files that `security.ssl` names. `host` is the name or address that clients use. Throws an error
 * that names the setting when the files cannot be used; problems that only clients would have become warnings.
 */
export function readCertificate ({ certFile, keyFile }: TlsFiles, host: string, now: number = Date.now()): Certificate {
  const cert = read('security.ssl.cert_file', certFile)
  const key = read('security.ssl.key_file', keyFile)
  const chain = parseChain(certFile, cert)
  const [leaf] = chain
  if (!leaf.checkPrivateKey(parseKey(keyFile, key))) {
    throw new Error(
      `security.ssl.key_file: ${keyFile} is not the key of the first certificate in ${certFile} (${nameOf(leaf)}). ` +
        'Use the key with which the certificate was requested, and put the certificate of the service first in the chain.'
    )
  }
  try {
    createSecureContext({ cert, key })
  } catch (error) {
    throw new Error(`security.ssl.cert_file: ${certFile} cannot be used: ${(error as Error).message}`)
  }
  return {
    cert,
    key,
    expiresAt: Math.min(...chain.map(certificate => Date.parse(certificate.validTo))),
    warnings: [
      ...chain.flatMap(certificate => validityWarnings(certFile, certificate, now)),
      ...leafWarnings(certFile, leaf, host),
      ...keyFileWarnings(keyFile)
    ]
  }
}

/** Whole days until `time`; negative when it is in the past. */
export function daysUntil (time: number, now: number = Date.now()): number {
  return Math.floor((time - now) / DAY_MS)
}

function read (setting: string, file: string): Buffer {
  if (file === '') throw new Error(`${setting} is empty, but security.ssl.enabled is true: set it to a PEM file`)
  try {
    return readFileSync(file)
  } catch (error) {
    throw new Error(`${setting}: ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`)
  }
}

function parseChain (file: string, pem: Buffer): [X509Certificate, ...X509Certificate[]] {
  const blocks = pem.toString('latin1').match(PEM_CERTIFICATE) ?? []
  try {
    const [leaf, ...issuers] = blocks.map(block => new X509Certificate(block))
    if (leaf !== undefined) return [leaf, ...issuers]
  } catch {}
  throw new Error(`security.ssl.cert_file: ${file} contains no certificate chain in PEM ("-----BEGIN CERTIFICATE-----")`)
}

function parseKey (file: string, pem: Buffer): KeyObject {
  try {
    return createPrivateKey(pem)
  } catch {
    // Both formats of an encrypted key contain ENCRYPTED in their first lines (RFC 5958, RFC 1421).
    const reason = pem.subarray(0, 100).includes('ENCRYPTED')
      ? 'is encrypted: store it without a passphrase, in a file that only the service can read'
      : 'contains no private key in PEM ("-----BEGIN PRIVATE KEY-----")'
    throw new Error(`security.ssl.key_file: ${file} ${reason}`)
  }
}

function validityWarnings (file: string, certificate: X509Certificate, now: number): string[] {
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)]
  if (now > to) {
    return [`${file}: the certificate of ${nameOf(certificate)} expired on ${dateOf(to)}, so clients refuse it. Renew it.`]
  }
  if (now < from) {
    return [
      `${file}: the certificate of ${nameOf(certificate)} is not valid before ${dateOf(from)}, so clients ` +
        'refuse it. Check the clock of this machine.'
    ]
  }
  return []
}

function leafWarnings (file: string, leaf: X509Certificate, host: string): string[] {
  const warnings: string[] = []
  const isNamed = isIP(host) === 0 ? leaf.checkHost(host) !== undefined : leaf.checkIP(host) !== undefined
  if (!isNamed) {
    warnings.push(
      `${file}: the certificate is for ${leaf.subjectAltName ?? 'no host name'}, but clients connect to ${host}, so ` +
        'they refuse it. Set server.public_host to a name of the certificate, or get a certificate for that name.'
    )
  }
  const weakness = weaknessOf(leaf.publicKey)
  if (weakness !== null) {
    warnings.push(
      `${file}: the certificate's key is weak (${weakness}). Use RSA of at least 2048 bits, or ECDSA on P-256 or P-384.`
    )
  }
  // Node calls the extended key usage `keyUsage`. It is undefined when the certificate may be used for any purpose.
  const usages = leaf.keyUsage as readonly string[] | undefined
  if (usages !== undefined && !usages.some(usage => SERVER_AUTH.has(usage))) {
    warnings.push(
      `${file}: the certificate is not for servers (extended key usage ${usages.join(', ')}), so clients refuse ` +
        'it. Get a certificate with serverAuth.'
    )
  }
  return warnings
}

function weaknessOf (key: KeyObject): string | null {
  const { modulusLength, namedCurve, publicExponent } = key.asymmetricKeyDetails ?? {}
  switch (key.asymmetricKeyType) {
    case 'rsa': case 'rsa-pss':
      if (modulusLength !== undefined && modulusLength < 2048) return `RSA of ${modulusLength} bits`
      return publicExponent !== undefined && publicExponent < 3n ? `RSA with exponent ${publicExponent}` : null
    case 'ec': return STRONG_CURVES.has(namedCurve) ? null : `ECDSA on ${namedCurve}`
    case 'ed25519': case 'ed448': return null
    default: return String(key.asymmetricKeyType)
  }
}

function keyFileWarnings (file: string): string[] {
  const mode = statSync(file).mode & 0o777
  if ((mode & 0o004) === 0) return []
  return [
    `${file}: any user of this machine can read the private key (mode ${mode.toString(8).padStart(4, '0')}). Run: ` +
      `chmod 600 ${file}`
  ]
}

function nameOf ({ subject, subjectAltName }: X509Certificate): string {
  return subjectAltName ?? subject?.replaceAll('\n', ', ') ?? 'no name'
}

function dateOf (time: number): string {
  return new Date(time).toISOString().slice(0, 10)
}
