import { randomBytes, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import type { AsymmetricAlgorithmName, TrustedIssuerOptions } from '@marty/auth'
import { createAuthority } from './certificates.js'
import { ASYMMETRIC, forgeWith, PAIRS } from './key-pairs.js'
import type { Teardown } from './teardown.js'
import { AUDIENCE, now } from './tokens.js'

export const FOREIGN = 'https://login.example'

const authority = createAuthority()
const SERVER = authority.issue(['subjectAltName = IP:127.0.0.1'])
authority.remove()
/** The authority that signed the certificate of every provider. */
export const CA: Buffer = Buffer.from(authority.cert)

export interface Provider {
  readonly url: string
  readonly options: TrustedIssuerOptions
  /** Number of requests for its keys. */
  asked: number
  answer: (response: ServerResponse, request: IncomingMessage) => void
}

export const publicJwk = (key: KeyObject, more: object = {}): object => ({ ...key.export({ format: 'jwk' }), use: 'sig', ...more })

export function keySet (...keys: unknown[]): (response: ServerResponse) => void {
  return response => { response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys })) }
}

export const allKeys: readonly object[] = ASYMMETRIC.map(alg => publicJwk(PAIRS[alg].publicKey, { kid: alg, alg }))

/** Another issuer: an HTTPS server that publishes its keys. */
export async function provide (t: Teardown, options: Partial<TrustedIssuerOptions> = {}): Promise<Provider> {
  const sockets = new Set<Duplex>()
  const server = createServer({ key: SERVER.key, cert: SERVER.cert }, (request, response) => {
    provider.asked++
    provider.answer(response, request)
  })
  server.on('connection', socket => { sockets.add(socket) })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`
  const provider: Provider = {
    url,
    options: { issuer: FOREIGN, jwksUrl: url, algorithms: ASYMMETRIC, ca: CA, ...options },
    asked: 0,
    answer: keySet(...allKeys)
  }
  return provider
}

export function claims (changes: object = {}): object {
  const jti = randomBytes(6).toString('hex')
  return { iss: FOREIGN, aud: AUDIENCE, sub: 'alice', jti, iat: now(), exp: now() + 300, ...changes }
}

/** A token of that issuer with a valid signature. */
export function foreign (
  alg: AsymmetricAlgorithmName, changes: object = {}, header: object = {}, key: KeyObject = PAIRS[alg].privateKey
): string {
  return forgeWith(alg, { alg, typ: 'at+jwt', kid: alg, ...header }, claims(changes), key)
}
