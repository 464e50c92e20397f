import type { SecurityEvent, SecurityEventType } from '@marty/core'

/** The version of the Open Cybersecurity Schema Framework whose names and numbers the records use. */
export const OCSF_VERSION = '1.3.0'

export const LIFECYCLE_UID = 6002
export const LOG_UID = 1008

interface EventClass {
  readonly uid: number
  readonly name: string
  /** Activity numbers by a pattern of the action; the first match wins, otherwise 99 (Other). */
  readonly activities: ReadonlyArray<readonly [RegExp, number]>
}

const AUTHENTICATION: EventClass = {
  uid: 3002,
  name: 'Authentication',
  activities: [
    [/\.(revoke|logout|delete|end|expire)/, 2],
    [/\.renew/, 99],
    [/./, 1]
  ]
}

const CLASSES: Readonly<Record<SecurityEventType, EventClass>> = {
  authentication: AUTHENTICATION,
  session: AUTHENTICATION,
  authorization: { uid: 3003, name: 'Authorize Session', activities: [] },
  credential: {
    uid: 3001,
    name: 'Account Change',
    activities: [
      [/password\.reset/, 4],
      [/password\.change/, 3],
      [/\.(issue|create|add)/, 1],
      [/\.enable/, 2],
      [/\.disable/, 5],
      [/\.(revoke|delete|remove)/, 6],
      [/\.lock/, 9]
    ]
  },
  policy: {
    uid: 3004,
    name: 'Entity Management',
    activities: [
      [/\.(create|add)/, 1],
      [/\.(delete|remove)/, 4],
      [/\.(reload|update|change|assign)/, 3]
    ]
  },
  operation: {
    uid: 6003,
    name: 'API Activity',
    activities: [
      [/^POST /, 1],
      [/^(GET|HEAD) /, 2],
      [/^(PUT|PATCH) /, 3],
      [/^DELETE /, 4]
    ]
  },
  limit: { uid: 6003, name: 'API Activity', activities: [] },
  service: {
    uid: LIFECYCLE_UID,
    name: 'Application Lifecycle',
    activities: [
      [/\.start$/, 3],
      [/\.stop$/, 4]
    ]
  }
}

/** Event Log Activity: what the audit log says of itself. */
const LOG_CLASS: EventClass = { uid: LOG_UID, name: 'Event Log Activity', activities: [[/\.prune$/, 2]] }
const UNKNOWN_CLASS: EventClass = { uid: 0, name: 'Base Event', activities: [] }

/** The OCSF classification of a record; the same for all events of one type, action and outcome. */
export interface Classification {
  readonly category_uid: number
  readonly class_uid: number
  readonly class_name: string
  readonly activity_id: number
  /** The action as the service names it. */
  readonly activity_name: string
  readonly type_uid: number
  /** 1 informational, 3 medium, 4 high. */
  readonly severity_id: number
  readonly status_id: number
  readonly status: 'success' | 'failure' | 'denied'
}

/** `activityName` is the action, already neutralized. */
export function classify (
  type: SecurityEventType | 'log',
  action: string,
  outcome: SecurityEvent['outcome'],
  activityName: string
): Classification {
  const { uid, name, activities } = type === 'log' ? LOG_CLASS : (CLASSES[type] ?? UNKNOWN_CLASS)
  const activity = activities.find(([pattern]) => pattern.test(action))?.[1] ?? 99
  const ok = outcome === 'success'
  return {
    category_uid: Math.floor(uid / 1000),
    class_uid: uid,
    class_name: name,
    activity_id: activity,
    activity_name: activityName,
    type_uid: uid * 100 + activity,
    severity_id: severityOf(type, ok),
    status_id: ok ? 1 : 2,
    status: ok || outcome === 'denied' ? outcome : 'failure'
  }
}

/** A loss or an attack on the log itself is worse than a failed event. */
function severityOf (type: SecurityEventType | 'log', ok: boolean): number {
  if (ok) return 1
  return type === 'log' ? 4 : 3
}
