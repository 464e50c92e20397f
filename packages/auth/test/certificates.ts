import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Issued {
  readonly cert: string
  readonly key: string
}

export interface CertificateAuthority {
  readonly cert: string
  /** `extensions` as in an OpenSSL configuration, one per line. Times are milliseconds since the epoch. */
  issue (extensions: readonly string[], validity?: { readonly from?: number, readonly to?: number }): Issued
  remove (): void
}

const HOUR = 3_600_000

/** A real authority, made by the `openssl` command. */
export function createAuthority (name: string): CertificateAuthority {
  const folder = mkdtempSync(join(tmpdir(), 'marty-ca-'))
  const at = (file: string): string => join(folder, file)
  const openssl = (...args: string[]): void => { execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] }) }
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

  writeFileSync(at('ca.cnf'), [
    '[ca]', 'default_ca = own', '[own]', 'database = index.txt', 'new_certs_dir = .', 'rand_serial = yes', 'default_md = sha256',
    'unique_subject = no', 'policy = names', 'certificate = ca.pem', 'private_key = ca.key', '[names]', 'commonName = supplied', 'organizationName = optional',
    '[req]', 'distinguished_name = none', '[none]'
  ].join('\n'))
  writeFileSync(at('index.txt'), '')
  openssl('req', '-config', 'ca.cnf', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', `/CN=${name}`,
    '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign')
  openssl('req', '-config', 'ca.cnf', ...newKey, '-keyout', 'leaf.key', '-out', 'leaf.csr', '-subj', '/O=Cameras/CN=leaf')
  const read = (file: string): string => readFileSync(at(file), 'utf8')

  return {
    cert: read('ca.pem'),
    issue (extensions, { from = Date.now() - HOUR, to = Date.now() + HOUR } = {}) {
      writeFileSync(at('extensions'), extensions.join('\n'))
      openssl('ca', '-batch', '-notext', '-config', 'ca.cnf', '-in', 'leaf.csr', '-out', 'leaf.pem', '-extfile', 'extensions',
        '-startdate', asn1Time(from), '-enddate', asn1Time(to))
      return { cert: read('leaf.pem'), key: read('leaf.key') }
    },
    remove: () => { rmSync(folder, { recursive: true, force: true }) }
  }
}

function asn1Time (ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace(/[-:T]/g, '')}Z`
}
