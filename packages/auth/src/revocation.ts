import { AuthCapacityExceeded } from './errors.js'

/** Tokens that are refused although they have not expired, by their `jti`. */
export interface RevocationList {
  /**
   * Refuses the token from now on. `expiresAt` (milliseconds since the epoch) says until when it has to be remembered.
   * Throws `MARTY_AUTH_CAPACITY_EXCEEDED` rather than forget another revocation.
   */
  revoke (jti: string, expiresAt: number): void
  has (jti: string): boolean
  readonly size: number
}

/** Remembers at most `max` revocations in this process, each until its token has expired anyway. `clock` tells the time in milliseconds since the epoch. */
export function createRevocationList (max: number = 100_000, clock: () => number = Date.now): RevocationList {
  const revoked = new Map<string, number>()
  const dropExpired = (now: number): void => {
    for (const [jti, expiresAt] of revoked) if (expiresAt <= now) revoked.delete(jti)
  }
  let sweptAt = 0
  return {
    revoke (jti, expiresAt) {
      const now = clock()
      if (revoked.size >= max || now - sweptAt > 60_000) {
        dropExpired(now)
        sweptAt = now
      }
      if (expiresAt <= now) return
      if (revoked.size >= max && !revoked.has(jti)) throw new AuthCapacityExceeded()
      revoked.set(jti, Math.max(expiresAt, revoked.get(jti) ?? 0))
    },
    has: jti => revoked.has(jti),
    get size () { return revoked.size }
  }
}
