import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

export interface Certificate {
  readonly certFile: string
  readonly keyFile: string
  readonly cert: Buffer
  readonly key: Buffer
}

export interface Authority extends Certificate {
  /** A certificate for a server or client, with one subject alternative name such as `IP:127.0.0.1`. */
  issue (name: string): Certificate
}

/** An authority of its own, made by the `openssl` command. */
export function createAuthority (t: Test): Authority {
  const folder = mkdtempSync(join(tmpdir(), 'marty-certificates-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  let count = 0
  const make = (...args: readonly string[]): Certificate => {
    const [certFile, keyFile] = [join(folder, `${++count}.crt`), join(folder, `${count}.key`)]
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-out', certFile, '-keyout', keyFile, ...args], { stdio: 'pipe' })
    return { certFile, keyFile, cert: readFileSync(certFile), key: readFileSync(keyFile) }
  }
  const authority = make('-subj', '/CN=Test Authority', '-addext', 'basicConstraints=critical,CA:TRUE')
  return {
    ...authority,
    issue: name => make('-CA', authority.certFile, '-CAkey', authority.keyFile, '-subj', '/CN=test', '-addext', `subjectAltName=${name}`, '-addext', 'basicConstraints=critical,CA:FALSE')
  }
}
