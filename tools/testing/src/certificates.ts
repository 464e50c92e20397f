import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface CertificateFiles { readonly certFile: string, readonly keyFile: string }

/** A certificate and its private key, in PEM, as strings and as files. */
export interface Certificate extends CertificateFiles { readonly cert: string, readonly key: string }

/** Milliseconds since the epoch. */
export interface Validity { readonly from?: number, readonly to?: number }

export interface CertificateAuthority extends Certificate {
  /**
   * Issues a certificate with a new key.
   * @param extensions as in an OpenSSL configuration, such as `subjectAltName = IP:127.0.0.1`
   * @param validity @default from an hour ago to an hour from now
   */
  issue (extensions: readonly string[], validity?: Validity): Certificate
  /** Deletes the files. */
  remove (): void
}

export interface SelfSignedOptions {
  /** `openssl genpkey` options. @default an EC key on P-256 */
  readonly key?: readonly string[]
  /** @default DNS:localhost,IP:127.0.0.1 */
  readonly names?: string
  readonly extensions?: readonly string[]
  /** Days from now. @default 0 */
  readonly from?: number
  /** Days from now. @default 2 */
  readonly to?: number
}

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const P256 = ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256']

/** A certificate authority, made by the `openssl` command in a temporary folder. */
export function createAuthority (name = 'Test Authority'): CertificateAuthority {
  const folder = mkdtempSync(join(tmpdir(), 'marty-ca-'))
  const own = makeCertificate(folder, 'ca', {
    subject: `/CN=${name}`,
    extensions: ['basicConstraints = critical,CA:TRUE', 'keyUsage = critical,keyCertSign'],
    from: Date.now() - HOUR_MS,
    to: Date.now() + 2 * DAY_MS
  })
  let count = 0
  return {
    ...own,
    issue: (extensions, { from = Date.now() - HOUR_MS, to = Date.now() + HOUR_MS } = {}) =>
      makeCertificate(folder, `leaf-${++count}`, { subject: '/O=Cameras/CN=leaf', extensions, from, to, issuer: own }),
    remove: () => { rmSync(folder, { recursive: true, force: true }) }
  }
}

/** A self-signed certificate with its key, made by the `openssl` command in `folder`. */
export function selfSigned (folder: string, name: string, options: SelfSignedOptions = {}): Certificate {
  const { key = P256, names = 'DNS:localhost,IP:127.0.0.1', extensions = [], from = 0, to = 2 } = options
  return makeCertificate(folder, name, {
    key,
    subject: `/CN=${name}`,
    extensions: [`subjectAltName = ${names}`, ...extensions],
    from: Date.now() + from * DAY_MS,
    to: Date.now() + to * DAY_MS
  })
}

interface Request {
  readonly key?: readonly string[]
  readonly subject: string
  readonly extensions: readonly string[]
  readonly from: number
  readonly to: number
  /** The certificate that signs. @default the new certificate signs itself */
  readonly issuer?: CertificateFiles
}

/** `openssl ca` is the only command of OpenSSL 3.0 that sets both dates; it needs a configuration and a database. */
function makeCertificate (folder: string, name: string, request: Request): Certificate {
  const { key = P256, subject, extensions, from, to, issuer } = request
  const at = (extension: string): string => join(folder, `${name}.${extension}`)
  const [certFile, keyFile, config, signingRequest] = [at('pem'), at('key'), at('cnf'), at('csr')]

  writeFileSync(at('database'), '')
  writeFileSync(config, [
    '[ca]', 'default_ca = own',
    '[own]', `database = ${at('database')}`, `new_certs_dir = ${folder}`, 'rand_serial = yes', 'default_md = sha256',
    'unique_subject = no', 'policy = subject', 'x509_extensions = extensions',
    '[subject]', 'commonName = supplied', 'organizationName = optional',
    '[req]', 'distinguished_name = none', '[none]',
    '[extensions]', ...extensions, ''
  ].join('\n'))
  openssl('genpkey', ...key, '-out', keyFile)
  chmodSync(keyFile, 0o600)
  openssl('req', '-config', config, '-new', '-key', keyFile, '-subj', subject, '-out', signingRequest)
  openssl('ca', '-batch', '-notext', '-config', config, '-in', signingRequest, '-out', certFile,
    '-startdate', asn1Time(from), '-enddate', asn1Time(to),
    ...(issuer === undefined ? ['-selfsign', '-keyfile', keyFile] : ['-cert', issuer.certFile, '-keyfile', issuer.keyFile]))

  return { certFile, keyFile, cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') }
}

function openssl (...args: readonly string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

function asn1Time (ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace(/[-:T]/g, '')}Z`
}
