import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface CertificateFiles { readonly certFile: string, readonly keyFile: string }

export interface CertificateRequest {
  /** `openssl genpkey` options. @default an EC key on P-256 */
  readonly key?: readonly string[]
  /** @default DNS:localhost,IP:127.0.0.1 */
  readonly names?: string
  readonly extensions?: readonly string[]
  /** Days from now. @default 0 */
  readonly from?: number
  /** @default 2 */
  readonly to?: number
}

/** A self-signed certificate with its key, made by openssl in `folder`. */
export async function makeCertificate (folder: string, name: string, request: CertificateRequest = {}): Promise<CertificateFiles> {
  const { key = ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'], names = 'DNS:localhost,IP:127.0.0.1', extensions = [], from = 0, to = 2 } = request
  const [certFile, keyFile, requestFile] = [join(folder, `${name}.pem`), join(folder, `${name}.key`), join(folder, `${name}.csr`)]
  await run('openssl', ['genpkey', ...key, '-out', keyFile])
  await run('chmod', ['600', keyFile])
  const added = [`subjectAltName=${names}`, ...extensions].flatMap(extension => ['-addext', extension])
  await run('openssl', ['req', '-new', '-key', keyFile, '-subj', `/CN=${name}`, ...added, '-out', requestFile])
  await run('openssl', ['ca', '-batch', '-selfsign', '-keyfile', keyFile, '-in', requestFile, '-out', certFile, '-notext',
    '-startdate', utc(from), '-enddate', utc(to), '-config', await authority(folder, name)])
  return { certFile, keyFile }
}

/** `openssl ca` is the only command of openssl 3.0 that sets both dates, and it wants a configuration and a database. */
async function authority (folder: string, name: string): Promise<string> {
  const [config, database] = [join(folder, `${name}.cnf`), join(folder, `${name}.database`)]
  await writeFile(database, '')
  await writeFile(config, [
    '[ca]', 'default_ca = own', '[own]', `new_certs_dir = ${folder}`, `database = ${database}`, 'rand_serial = yes', 'default_md = sha256',
    'policy = any', 'copy_extensions = copyall', 'unique_subject = no', '[any]', 'commonName = supplied', ''
  ].join('\n'))
  return config
}

function utc (days: number): string {
  return new Date(Date.now() + days * 86_400_000).toISOString().replaceAll(/[-:T]|\.\d+/g, '')
}
