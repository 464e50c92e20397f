import { ANONYMOUS, createSampler, type Omitted, type SecurityEvent } from '@marty/core'

/** Lets through what is to be written of the limiter trips: the first of a kind each minute, and how many others came. */
export interface LimitSampler {
  /** Whether this trip is to be written now; otherwise it is counted. */
  isFirst (event: SecurityEvent): boolean
  /** Reports what has been counted. Afterwards nothing is counted any more. */
  close (): void
}

/** Whoever trips a limit pays nothing for it, so each trip written down would let anybody fill the disk. */
const WINDOW_MS = 60_000
/** Of address, action and reason together; beyond, all are counted in one record. */
const MAX_KINDS = 10_000

/** `write` gets one event with a `count` for each kind that came again within the minute. */
export function createLimitSampler (write: (event: SecurityEvent) => void): LimitSampler {
  const sampler = createSampler<SecurityEvent>({
    windowMs: WINDOW_MS,
    perKind: 1,
    maxKinds: MAX_KINDS,
    isAlike: ({ principal: first }, { principal: other }) => first.id === other.id && first.kind === other.kind,
    report: omitted => { write(summaryOf(omitted)) }
  })
  return {
    isFirst: event => sampler.passes(JSON.stringify([event.address, event.action, event.reason]), event),
    close () { sampler.close() }
  }
}

function summaryOf ({ first, since, count, alike, overflow }: Omitted<SecurityEvent>): SecurityEvent {
  return {
    type: first.type,
    action: overflow ? 'limit.others' : first.action,
    outcome: first.outcome,
    reason: overflow ? null : first.reason,
    principal: alike ? first.principal : ANONYMOUS,
    address: overflow ? null : first.address,
    requestId: null,
    details: { count, since, ...(alike ? {} : { principals: 'several' }) }
  }
}
