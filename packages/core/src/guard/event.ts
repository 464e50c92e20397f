import type { Principal } from '../principal.js'

/** Kinds of security events; the audit package maps them to its schema. */
export type SecurityEventType =
  'authentication' | 'authorization' | 'limit' | 'operation' | 'credential' | 'session' | 'policy' | 'service'

/** A security-relevant event, as the plugins emit it. The audit package adds time, id and sequence number. */
export interface SecurityEvent {
  readonly type: SecurityEventType
  /** What was attempted: an operation's name, or `noun.verb` such as `token.issue`. */
  readonly action: string
  readonly outcome: 'success' | 'failure' | 'denied'
  /** The error code, or null when there was no error. */
  readonly reason: string | null
  readonly principal: Pick<Principal, 'id' | 'kind' | 'roles'>
  readonly address: string | null
  readonly requestId: string | null
  /** The object of the action, when it is known. */
  readonly object?: string | undefined
  /** For a refused credential, `reason` says what is wrong with it. It is written to the audit log and never sent. */
  readonly details?: Readonly<Record<string, string | number | boolean | null>> | undefined
}

/** Receives events. Returning a promise lets operations marked `audit: 'required'` wait for it. */
export type EventSink = (event: SecurityEvent) => void | Promise<void>
