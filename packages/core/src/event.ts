import type { Principal } from './principal.js'

/** Kinds of security events; the audit package maps them to its schema. */
export type SecurityEventType =
  'authentication' | 'authorization' | 'limit' | 'operation' | 'credential' | 'session' | 'policy' | 'service'

/** Something worth remembering, as the plugins tell it; time, id and sequence are added where it is written down. */
export interface SecurityEvent {
  readonly type: SecurityEventType
  /** What was attempted: an operation's name, or `noun.verb` such as `token.issue`. */
  readonly action: string
  readonly outcome: 'success' | 'failure' | 'denied'
  /** The error's code, or null when nothing went wrong. */
  readonly reason: string | null
  readonly principal: Pick<Principal, 'id' | 'kind' | 'roles'>
  readonly address: string | null
  readonly requestId: string | null
  /** What it was done to, when that is known. */
  readonly object?: string | undefined
  /** Of a refused credential, `reason` names what was wrong with it: it stands in the audit log and is never sent. */
  readonly details?: Readonly<Record<string, string | number | boolean | null>> | undefined
}

/** Receives events. Returning a promise lets operations marked `audit: 'required'` wait for it. */
export type EventSink = (event: SecurityEvent) => void | Promise<void>
