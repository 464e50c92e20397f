import type { SecurityEvent } from '@marty/core'

/** The audit log of one application: `fastify.audit`. */
export interface Audit {
  /**
   * Writes an event down. With a file in `sync` mode it settles when the event is on disk.
   * Rejects with `MARTY_AUDIT_UNAVAILABLE` when it cannot be written. Records whatever it is given; rules do not filter it.
   */
  record (event: SecurityEvent): Promise<void>
  health (): AuditHealth
}

export interface AuditHealth {
  readonly status: 'healthy' | 'unhealthy'
  readonly details: {
    readonly sink: 'none' | 'stdout' | 'file' | 'redis' | 'custom'
    /** Events of this run that could not be written. */
    readonly lostEvents: number
    readonly lastError: string | null
    /** Events waiting to be written. */
    readonly queued: number
  }
}
