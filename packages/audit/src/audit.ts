import type { SecurityEvent } from '@marty/core'

/** The audit log of one application: `fastify.audit`. */
export interface Audit {
  /**
   * Writes an event. With a file in `sync` mode, the promise settles when the event is on disk. It rejects with
   * `MARTY_AUDIT_UNAVAILABLE` when the event cannot be written. Rules of operations do not filter these events.
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
