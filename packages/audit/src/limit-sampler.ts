import { ANONYMOUS, type SecurityEvent } from '@marty/core'

/** Lets through what is to be written of the limiter trips: the first of a kind each minute, and how many others came. */
export interface LimitSampler {
  /** Whether this trip is to be written now; otherwise it is counted. */
  isFirst (event: SecurityEvent): boolean
  /** Tells what has been counted. Afterwards nothing is counted any more. */
  close (): void
}

interface Kind {
  readonly event: SecurityEvent
  readonly since: string
  others: number
  principals: 'one' | 'several'
}

/** Whoever trips a limit pays nothing for it, so each trip written down would let anybody fill the disk. */
const WINDOW_MS = 60_000
/** Of address, action and reason together; beyond, all are counted in one record. */
const MAX_KINDS = 10_000

/** `tell` gets one event with a `count` for each kind that came again within the minute. */
export function createLimitSampler (tell: (event: SecurityEvent) => void): LimitSampler {
  let kinds = new Map<string, Kind>()
  let overflow: Kind | null = null
  let timer: ReturnType<typeof setTimeout> | null = null
  let closed = false

  function flush (): void {
    if (timer !== null) clearTimeout(timer)
    timer = null
    const over = overflow === null ? [...kinds.values()] : [...kinds.values(), overflow]
    kinds = new Map()
    overflow = null
    for (const kind of over) {
      if (kind.others > 0) tell(summaryOf(kind))
    }
  }

  return {
    isFirst (event) {
      if (closed) return true
      timer ??= setTimeout(flush, WINDOW_MS).unref()
      const key = JSON.stringify([event.address, event.action, event.reason])
      const known = kinds.get(key)
      if (known === undefined && kinds.size < MAX_KINDS) {
        kinds.set(key, kindOf(event))
        return true
      }
      count(known ?? (overflow ??= kindOf({ ...event, action: 'limit.others', reason: null, address: null })), event)
      return false
    },
    close () {
      closed = true
      flush()
    }
  }
}

function kindOf (event: SecurityEvent): Kind {
  return { event, since: new Date().toISOString(), others: 0, principals: 'one' }
}

function count (kind: Kind, { principal }: SecurityEvent): void {
  kind.others++
  if (principal.id !== kind.event.principal.id || principal.kind !== kind.event.principal.kind) kind.principals = 'several'
}

function summaryOf ({ event, since, others, principals }: Kind): SecurityEvent {
  const { type, action, outcome, reason, principal, address } = event
  return {
    type,
    action,
    outcome,
    reason,
    principal: principals === 'one' ? principal : ANONYMOUS,
    address,
    requestId: null,
    details: { count: others, since, ...(principals === 'one' ? {} : { principals }) }
  }
}
