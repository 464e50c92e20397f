import { execFileSync } from 'node:child_process'
import { randomBytes, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import type { Test } from 'tap'
import type { AsymmetricAlgorithmName, ForeignIssuerOptions } from '@marty/auth'
import { ASYMMETRIC, forgeWith, PAIRS } from './key-pairs.js'
import { AUDIENCE, now } from './service.js'

export const FOREIGN = 'https://login.example'

// A certificate authority, a certificate of it for this machine, and one that signed itself.
const folder = mkdtempSync(join(tmpdir(), 'marty-provider-'))
const openssl = (...args: string[]): void => { execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' }) }
const at = (name: string): string => join(folder, name)
openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=test authority')
openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=provider', '-addext', 'subjectAltName=IP:127.0.0.1')
openssl('x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out', 'server.pem', '-days', '2', '-copy_extensions', 'copy')
export const CA: Buffer = readFileSync(at('ca.pem'))
const SERVER = { key: readFileSync(at('server.key')), cert: readFileSync(at('server.pem')) }
rmSync(folder, { recursive: true })

export interface Provider {
  readonly url: string
  readonly options: ForeignIssuerOptions
  /** How often its keys were asked for. */
  asked: number
  answer: (response: ServerResponse, request: IncomingMessage) => void
}

export const publicJwk = (key: KeyObject, more: object = {}): object => ({ ...key.export({ format: 'jwk' }), use: 'sig', ...more })
export const keySet = (...keys: unknown[]): (response: ServerResponse) => void => response => { response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys })) }
export const allKeys = ASYMMETRIC.map(alg => publicJwk(PAIRS[alg].publicKey, { kid: alg, alg }))

/** Another issuer: an HTTPS server that publishes its keys. */
export async function provide (t: Test, options: Partial<ForeignIssuerOptions> = {}): Promise<Provider> {
  const sockets = new Set<Duplex>()
  const server = createServer(SERVER, (request, response) => { provider.asked++; provider.answer(response, request) })
  server.on('connection', socket => { sockets.add(socket) })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`
  const provider: Provider = { url, options: { issuer: FOREIGN, jwksUrl: url, algorithms: ASYMMETRIC, ca: CA, ...options }, asked: 0, answer: keySet(...allKeys) }
  return provider
}

export const claims = (changes: object = {}): object => ({ iss: FOREIGN, aud: AUDIENCE, sub: 'alice', jti: randomBytes(6).toString('hex'), iat: now(), exp: now() + 300, ...changes })

/** A token of that issuer, really signed. */
export function foreign (alg: AsymmetricAlgorithmName, changes: object = {}, header: object = {}, key: KeyObject = PAIRS[alg].privateKey): string {
  return forgeWith(alg, { alg, typ: 'at+jwt', kid: alg, ...header }, claims(changes), key)
}
