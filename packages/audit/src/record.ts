import type { SecurityEvent } from '@marty/core'
import { randomUUID } from 'node:crypto'
import { neutralize } from './neutralize.js'
import { classify, OCSF_VERSION, type Classification } from './ocsf.js'
import { isSecretName, REDACTED } from './redact.js'

/** The name and version of the service, written in every record. */
export interface AuditProduct {
  readonly name: string
  readonly version: string
}

interface User { readonly uid: string, readonly type: string, readonly roles: readonly string[] }

/** One event as it is written; members are named as in OCSF where OCSF has a name. */
export interface AuditRecord extends Classification {
  /** UTC, milliseconds since the epoch. */
  readonly time: number
  /** The same, ISO 8601. */
  readonly time_dt: string
  /** The error's code, or null. */
  readonly status_code: string | null
  readonly actor: { readonly user: User }
  /** The user that an event of type authentication, session, authorization or credential is about. */
  readonly user?: User
  /** The called operation; only in class API Activity. */
  readonly api?: { readonly operation: string }
  readonly src_endpoint: { readonly ip: string | null }
  readonly resource: { readonly uid: string } | null
  readonly metadata: {
    readonly version: string
    readonly uid: string
    readonly correlation_uid: string | null
    readonly product: AuditProduct
  }
  readonly unmapped: Readonly<Record<string, string | number | boolean | null>>
}

const MAX_ROLES = 32
const MAX_DETAILS = 32
/** Recurring strings (actions, codes, roles, addresses) are neutralized once and cached. */
const MAX_CACHED = 2048
const MAX_CACHED_CHARS = 128

/**
 * Returns a function that turns an event into the JSON string of its `AuditRecord`, so that the event is not kept in
 * memory until it is written.
 * `secretNames` are names of details whose values are never written, in addition to the well-known ones.
 */
export function createRecordSerializer (
  product: AuditProduct,
  secretNames: ReadonlySet<string>
): (event: SecurityEvent) => string {
  const jsonStrings = new Map<string, string>()
  const classifications = new Map<string, string>()
  const productJson = JSON.stringify({ name: neutralize(product.name), version: neutralize(product.version) })

  function recurring (value: string | null | undefined): string {
    if (value === null || value === undefined) return 'null'
    const text = String(value)
    const cached = jsonStrings.get(text)
    if (cached !== undefined) return cached
    const neutral = neutralize(text)
    const json = JSON.stringify(neutral)
    // Do not cache a string that contained a secret.
    if (text.length <= MAX_CACHED_CHARS && neutral === text) remember(jsonStrings, text, json)
    return json
  }

  function classOf ({ type, action, outcome }: SecurityEvent): string {
    const key = `${type}\n${outcome}\n${action}`
    const cached = classifications.get(key)
    if (cached !== undefined) return cached
    const name = neutralize(String(action))
    const classification = classify(type, String(action), outcome, name)
    const api = classification.category_uid === 6 && type !== 'service' ? { api: { operation: name } } : {}
    const json = JSON.stringify({ ...classification, ...api }).slice(1, -1)
    if (name === action && name.length <= MAX_CACHED_CHARS) remember(classifications, key, json)
    return json
  }

  return event => {
    const { principal, type } = event
    const now = Date.now()
    const roles = principal.roles.slice(0, MAX_ROLES).map(recurring).join()
    const user = `{"uid":${recurring(principal.id)},"type":${recurring(principal.kind)},"roles":[${roles}]}`
    const isAboutUser = !(type === 'operation' || type === 'limit' || type === 'service' || type === 'policy')
    return (
      `{"time":${now},"time_dt":"${isoTime(now)}",${classOf(event)}` +
      `,"status_code":${recurring(event.reason)}` +
      `,"actor":{"user":${user}}` +
      (isAboutUser ? `,"user":${user}` : '') +
      `,"src_endpoint":{"ip":${recurring(event.address)}}` +
      `,"resource":${event.object === undefined ? 'null' : `{"uid":${once(event.object)}}`}` +
      `,"metadata":{"version":"${OCSF_VERSION}","uid":"${randomUUID()}"` +
      `,"correlation_uid":${once(event.requestId)},"product":${productJson}}` +
      `,"unmapped":${event.details === undefined ? '{}' : unmapped(event.details)}}`
    )
  }

  function unmapped (details: NonNullable<SecurityEvent['details']>): string {
    const written: string[] = []
    for (const [name, value] of Object.entries(details).slice(0, MAX_DETAILS)) {
      const json = isSecretName(name, secretNames) ? `"${REDACTED}"` : detail(value)
      written.push(`${recurring(name)}:${json}`)
    }
    return `{${written.join()}}`
  }
}

/** JSON of a string that is not expected to recur, so it is not cached. */
function once (value: string | null | undefined): string {
  return value === null || value === undefined ? 'null' : JSON.stringify(neutralize(String(value)))
}

function detail (value: unknown): string {
  if (typeof value === 'string') return once(value)
  return typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value)) ? String(value) : 'null'
}

function remember (cache: Map<string, string>, key: string, value: string): void {
  if (cache.size >= MAX_CACHED) cache.clear()
  cache.set(key, value)
}

let isoFor = NaN
let iso = ''

/** Caches the last result, because many events fall into one millisecond. */
function isoTime (now: number): string {
  if (now !== isoFor) {
    isoFor = now
    iso = new Date(now).toISOString()
  }
  return iso
}
