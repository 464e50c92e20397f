import type { Server } from 'node:https'
import type { TlsOptions } from 'node:tls'
import type { FastifyBaseLogger } from 'fastify'
import type { ProbeResult } from '@marty/health'
import { daysUntil, readCertificate, type Certificate, type TlsFiles } from './certificate.js'
import { limitHandshakes, type HandshakeCounts } from './handshake-limit.js'

/** Below this number of days until expiry, health reports degraded. It leaves time to renew manually. */
const RENEW_DAYS = 14
/** Refused handshakes are logged at most once in this time. */
const REPORT_MS = 60_000

/** TLS of the HTTP and WebSocket port. Can replace the certificate while connections are open; limits handshakes. */
export class TlsListener {
  readonly #files: TlsFiles
  readonly #host: string
  #certificate: Certificate
  #server: Server | null = null
  #log: FastifyBaseLogger | null = null
  #counts: HandshakeCounts = { completed: 0, failed: 0, refused: 0 }
  #reported = { at: -Infinity, refused: 0 }

  /** `host` is the name or address that clients use. Throws when the files cannot be used. */
  constructor (files: TlsFiles, host: string) {
    this.#files = files
    this.#host = host
    this.#certificate = readCertificate(files, host)
  }

  get warnings (): readonly string[] { return this.#certificate.warnings }

  /** Options of the https server. */
  get options (): TlsOptions {
    const { cert, key } = this.#certificate
    return {
      cert,
      key,
      minVersion: 'TLSv1.3',
      // Node's default also accepts ffdhe8192: one such key share blocks the event loop for 80 ms, before any limit
      // or log.
      ecdhCurve: 'X25519:P-256:P-384',
      handshakeTimeout: 10_000
    }
  }

  /** Limits the handshakes of the server that was created with {@link options}, and logs to `log` from now on. */
  attach (server: Server, handshakesPerMinute: number, log: FastifyBaseLogger): void {
    this.#server = server
    this.#log = log
    this.#counts = limitHandshakes(server, { perMinute: handshakesPerMinute }, () => { this.#reportRefused() })
  }

  /** Reloads the files. If they cannot be used, logs the reason and keeps the current certificate. */
  reload (): void {
    try {
      this.#certificate = readCertificate(this.#files, this.#host)
      this.#server?.setSecureContext(this.options)
    } catch (error) {
      this.#log?.error({ reason: (error as Error).message }, 'the new certificate cannot be used; the current one stays in use')
      return
    }
    for (const warning of this.warnings) this.#log?.warn(warning)
    this.#log?.info({ days_left: daysUntil(this.#certificate.expiresAt) }, 'certificate reloaded')
  }

  measure (): ProbeResult {
    const days = daysUntil(this.#certificate.expiresAt)
    const { completed, failed, refused } = this.#counts
    const handshakes = `${completed} handshakes, ${failed} failed, ${refused} refused`
    if (days < 0) return { status: 'unhealthy', details: `the certificate has expired; ${handshakes}` }
    return {
      status: days < RENEW_DAYS ? 'degraded' : 'healthy',
      details: `the certificate is valid for ${days} more ${days === 1 ? 'day' : 'days'}; ${handshakes}`
    }
  }

  #reportRefused (): void {
    const now = performance.now()
    if (now - this.#reported.at < REPORT_MS) return
    this.#log?.warn({ refused: this.#counts.refused - this.#reported.refused },
      'TLS handshakes refused: an address started more than security.ssl.handshakes_per_minute allows')
    this.#reported = { at: now, refused: this.#counts.refused }
  }
}
