import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'

/** What a TLS listener needs. */
export interface Tls { readonly cert: Buffer, readonly key: Buffer, readonly minVersion: 'TLSv1.3' }

/** Reads certificate and key, and says which setting names a file that is missing or does not fit. Null when TLS is off. */
export function readTls (ssl: { readonly enabled: boolean, readonly cert_file: string, readonly key_file: string }): Tls | null {
  if (!ssl.enabled) return null
  const tls: Tls = { cert: read('security.ssl.cert_file', ssl.cert_file), key: read('security.ssl.key_file', ssl.key_file), minVersion: 'TLSv1.3' }
  try {
    createSecureContext(tls)
  } catch (error) {
    throw new Error(`security.ssl.cert_file and security.ssl.key_file are not a certificate and its key in PEM: ${(error as Error).message}`)
  }
  return tls
}

function read (setting: string, file: string): Buffer {
  if (file === '') throw new Error(`${setting} is empty, but security.ssl.enabled is true: name a PEM file`)
  try {
    return readFileSync(file)
  } catch (error) {
    throw new Error(`${setting}: ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`)
  }
}
