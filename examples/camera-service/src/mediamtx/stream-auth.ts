import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Principal } from '@marty/core'

/** MediaMTX's HTTP authentication request, which it sends before every action. */
export interface MediaAuthRequest {
  readonly ip: string
  readonly user: string
  readonly password: string
  readonly token: string
  readonly action: 'publish' | 'read' | 'playback' | 'api' | 'metrics' | 'pprof' | (string & {})
  readonly path: string
  readonly protocol: string
  readonly id: string | null
  readonly query: string
}

/** A grant to watch one path for a short time. */
export interface StreamGrant {
  /** The token for the URL. Only its hash is stored. */
  readonly token: string
  /** Milliseconds since the epoch. A session that started earlier continues. */
  readonly expiresAt: number
}

/**
 * Decides whether MediaMTX may allow a client to publish, read or control. It stores hashes in memory and decides
 * without I/O. MediaMTX holds the path while it waits for the decision, so calling MediaMTX from here would deadlock.
 */
export interface StreamAuthority {
  /** Secret of this process for the Control API and metrics. */
  readonly controllerSecret: string
  /** A null `holder` means this service itself. */
  grantRead (path: string, holder: Principal | null, ttlMs: number): StreamGrant
  /** Creates a key with which one publisher may start publishing on one path. Replaces the path's earlier key. */
  grantPublish (path: string, ttlMs: number): StreamGrant
  /** Revokes the key of a path after its publisher has connected. MediaMTX does not check a started session again. */
  endPublish (path: string): void
  /** Revokes one read grant before it expires. */
  endRead (token: string): void
  /** Revokes the read grants of every holder for which `ends` returns true. Returns how many were revoked. */
  revokeReads (ends: (holder: Principal) => boolean): number
  /** The principals that hold a read grant that has not expired. */
  holders (): ReadonlySet<Principal>
  decide (request: MediaAuthRequest): Decision
}

/** `reader` is the holder of the grant that allowed a read. */
export interface Decision { readonly allowed: boolean, readonly reason: string, readonly reader?: Principal }

interface Entry { readonly path: string, readonly holder: Principal | null, readonly expiresAt: number }

/** Maximum number of read grants; beyond it the oldest is dropped. */
const MAX_GRANTS = 10_000

export function createStreamAuthority (now: () => number = Date.now): StreamAuthority {
  const controllerSecret = randomBytes(32).toString('base64url')
  const controllerHash = hash(controllerSecret)
  const reads = new Map<string, Entry>()
  const publishers = new Map<string, { readonly hash: string, readonly expiresAt: number }>()

  function sweep (): void {
    for (const [key, entry] of reads) {
      if (entry.expiresAt <= now() || reads.size > MAX_GRANTS) reads.delete(key)
    }
  }

  function isController (request: MediaAuthRequest): boolean {
    return timingSafeEqual(Buffer.from(hash(credentialOf(request))), Buffer.from(controllerHash))
  }

  return {
    controllerSecret,
    grantRead (path, holder, ttlMs) {
      sweep()
      const token = randomBytes(32).toString('base64url')
      const expiresAt = now() + ttlMs
      reads.set(hash(token), { path, holder, expiresAt })
      return { token, expiresAt }
    },
    grantPublish (path, ttlMs) {
      const token = randomBytes(32).toString('base64url')
      const expiresAt = now() + ttlMs
      publishers.set(path, { hash: hash(token), expiresAt })
      return { token, expiresAt }
    },
    endPublish (path) { publishers.delete(path) },
    endRead (token) { reads.delete(hash(token)) },
    revokeReads (ends) {
      let count = 0
      for (const [key, { holder }] of reads) {
        if (holder !== null && ends(holder) && reads.delete(key)) count++
      }
      return count
    },
    holders () {
      const found = new Set<Principal>()
      for (const { holder, expiresAt } of reads.values()) if (holder !== null && expiresAt > now()) found.add(holder)
      return found
    },
    decide (request) {
      const credential = credentialOf(request)
      if (credential === '') return { allowed: false, reason: 'no credential' }
      switch (request.action) {
        case 'api':
        case 'metrics':
          return isController(request) ? allowed : { allowed: false, reason: 'not the controller' }
        case 'publish': {
          const key = publishers.get(request.path)
          if (key === undefined || key.hash !== hash(credential)) {
            return { allowed: false, reason: 'not the publisher of this path' }
          }
          return key.expiresAt > now() ? allowed : { allowed: false, reason: 'publish key expired' }
        }
        case 'read': {
          const entry = reads.get(hash(credential))
          if (entry === undefined || entry.path !== request.path) {
            return { allowed: false, reason: 'no grant for this path' }
          }
          if (entry.expiresAt <= now()) return { allowed: false, reason: 'stream token expired' }
          return entry.holder === null ? allowed : { ...allowed, reader: entry.holder }
        }
        default:
          return { allowed: false, reason: 'action is never granted' }
      }
    }
  }
}

const allowed = Object.freeze({ allowed: true, reason: 'granted' })

/** MediaMTX sets `token` for RTSP only. For HLS and WebRTC, we read the token from the query. */
function credentialOf (request: MediaAuthRequest): string {
  return request.token || request.password || (new URLSearchParams(request.query).get('token') ?? '')
}

function hash (secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}
