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

/** `reader` is the holder of the grant that allowed a read. */
export interface Decision { readonly allowed: boolean, readonly reason: string, readonly reader?: Principal }

interface ReadGrant { readonly path: string, readonly holder: Principal | null, readonly expiresAt: number }

/** Maximum number of read grants; beyond it the oldest is dropped. */
const MAX_GRANTS = 10_000

const ALLOWED: Decision = Object.freeze({ allowed: true, reason: 'granted' })

/**
 * Decides whether MediaMTX may allow a client to publish, read or control. It stores hashes in memory and decides
 * without I/O. MediaMTX holds the path while it waits for the decision, so calling MediaMTX from here would deadlock.
 */
export class StreamAuthority {
  /** Secret of this process for the Control API and metrics. */
  readonly controllerSecret: string = newSecret()
  readonly #controllerHash = Buffer.from(hash(this.controllerSecret))
  /** By the hash of the token. */
  readonly #reads = new Map<string, ReadGrant>()
  /** By path. */
  readonly #publishers = new Map<string, { readonly hash: string, readonly expiresAt: number }>()
  readonly #now: () => number

  constructor (now: () => number = Date.now) {
    this.#now = now
  }

  /** A null `holder` means this service itself. */
  grantRead (path: string, holder: Principal | null, ttlMs: number): StreamGrant {
    this.#removeExpired()
    const token = newSecret()
    const expiresAt = this.#now() + ttlMs
    this.#reads.set(hash(token), { path, holder, expiresAt })
    return { token, expiresAt }
  }

  /** Creates a key with which one publisher may start publishing on one path. Replaces the path's earlier key. */
  grantPublish (path: string, ttlMs: number): StreamGrant {
    const token = newSecret()
    const expiresAt = this.#now() + ttlMs
    this.#publishers.set(path, { hash: hash(token), expiresAt })
    return { token, expiresAt }
  }

  /** Revokes the key of a path after its publisher has connected. MediaMTX does not check a started session again. */
  revokePublish (path: string): void {
    this.#publishers.delete(path)
  }

  /** Revokes one read grant before it expires. */
  revokeRead (token: string): void {
    this.#reads.delete(hash(token))
  }

  /** Revokes the read grants of every holder for which `isRevoked` returns true. Returns how many were revoked. */
  revokeReads (isRevoked: (holder: Principal) => boolean): number {
    let count = 0
    for (const [key, { holder }] of this.#reads) {
      if (holder !== null && isRevoked(holder) && this.#reads.delete(key)) count++
    }
    return count
  }

  /** The principals that hold a read grant that has not expired. */
  holders (): ReadonlySet<Principal> {
    const found = new Set<Principal>()
    for (const { holder, expiresAt } of this.#reads.values()) {
      if (holder !== null && expiresAt > this.#now()) found.add(holder)
    }
    return found
  }

  decide (request: MediaAuthRequest): Decision {
    const credential = credentialOf(request)
    if (credential === '') return denied('no credential')
    switch (request.action) {
      case 'api':
      case 'metrics': return this.#isController(credential) ? ALLOWED : denied('not the controller')
      case 'publish': return this.#decidePublish(request.path, hash(credential))
      case 'read': return this.#decideRead(request.path, hash(credential))
      default: return denied('action is never granted')
    }
  }

  #isController (credential: string): boolean {
    return timingSafeEqual(Buffer.from(hash(credential)), this.#controllerHash)
  }

  #decidePublish (path: string, key: string): Decision {
    const publisher = this.#publishers.get(path)
    if (publisher === undefined || publisher.hash !== key) return denied('not the publisher of this path')
    return publisher.expiresAt > this.#now() ? ALLOWED : denied('publish key expired')
  }

  #decideRead (path: string, key: string): Decision {
    const grant = this.#reads.get(key)
    if (grant === undefined || grant.path !== path) return denied('no grant for this path')
    if (grant.expiresAt <= this.#now()) return denied('stream token expired')
    return grant.holder === null ? ALLOWED : { ...ALLOWED, reader: grant.holder }
  }

  /** Also removes the oldest grants when there are too many. */
  #removeExpired (): void {
    for (const [key, grant] of this.#reads) {
      if (grant.expiresAt <= this.#now() || this.#reads.size > MAX_GRANTS) this.#reads.delete(key)
    }
  }
}

function denied (reason: string): Decision {
  return { allowed: false, reason }
}

function newSecret (): string {
  return randomBytes(32).toString('base64url')
}

/** MediaMTX sets `token` for RTSP only. For HLS and WebRTC, we read the token from the query. */
function credentialOf (request: MediaAuthRequest): string {
  return request.token || request.password || (new URLSearchParams(request.query).get('token') ?? '')
}

function hash (secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}
