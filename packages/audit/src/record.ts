import type { SecurityEvent, SecurityEventType } from '@marty/core'
import { randomUUID } from 'node:crypto'
import { isSecretName, neutralize, REDACTED } from './neutralize.js'

/** The name and version of the service, as every record tells it. */
export interface AuditProduct {
  readonly name: string
  readonly version: string
}

/** One event as it is written, before its place in the chain; member names follow OCSF where it has one. */
export interface AuditRecord {
  /** UTC with milliseconds, ISO 8601. */
  readonly time: string
  readonly class_name: string
  readonly activity_name: string
  readonly status: 'success' | 'failure' | 'denied'
  readonly status_code: string | null
  readonly actor: { readonly user: { readonly uid: string, readonly type: string, readonly roles: readonly string[] } }
  readonly src_endpoint: { readonly ip: string | null }
  readonly resource: { readonly uid: string } | null
  readonly metadata: { readonly uid: string, readonly correlation_uid: string | null, readonly product: AuditProduct }
  readonly unmapped: Readonly<Record<string, string | number | boolean | null>>
}

const CLASS_NAMES: Readonly<Record<SecurityEventType, string>> = {
  authentication: 'Authentication',
  authorization: 'Authorize Session',
  limit: 'API Activity: Rate Limit',
  operation: 'API Activity',
  credential: 'Account Change',
  session: 'Session',
  policy: 'Policy Change',
  service: 'Application Lifecycle'
}

const MAX_ROLES = 32
const MAX_DETAILS = 32

/** Builds records; `secretNames` are names of details that are never written, besides the well-known ones. */
export function createRecorder (product: AuditProduct, secretNames: ReadonlySet<string>): (event: SecurityEvent) => AuditRecord {
  const frozen = Object.freeze({ name: neutralize(product.name), version: neutralize(product.version) })
  return event => {
    const { principal } = event
    const unmapped: Record<string, string | number | boolean | null> = {}
    for (const [name, value] of Object.entries(event.details ?? {}).slice(0, MAX_DETAILS)) {
      unmapped[neutralize(name)] = isSecretName(name, secretNames) ? REDACTED : typeof value === 'string' ? neutralize(value) : scalar(value)
    }
    return {
      time: new Date().toISOString(),
      class_name: CLASS_NAMES[event.type] ?? 'Other',
      activity_name: neutralize(String(event.action)),
      status: event.outcome === 'success' || event.outcome === 'denied' ? event.outcome : 'failure',
      status_code: text(event.reason),
      actor: { user: { uid: neutralize(String(principal.id)), type: neutralize(String(principal.kind)), roles: principal.roles.slice(0, MAX_ROLES).map(neutralize) } },
      src_endpoint: { ip: text(event.address) },
      resource: event.object === undefined ? null : { uid: neutralize(event.object) },
      metadata: { uid: randomUUID(), correlation_uid: text(event.requestId), product: frozen },
      unmapped
    }
  }
}

function text (value: string | null | undefined): string | null {
  return value === null || value === undefined ? null : neutralize(value)
}

function scalar (value: unknown): number | boolean | null {
  return typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value)) ? value : null
}
