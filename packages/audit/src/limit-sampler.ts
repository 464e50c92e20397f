import { ANONYMOUS, createSampler, type Omitted, type SecurityEvent } from '@marty/core'

/** Samples refusals by a limit: passes the first of each kind in a minute, and counts the others. */
export interface LimitSampler {
  /** Whether to write this refusal now; otherwise it is counted. */
  isFirst (event: SecurityEvent): boolean
  /** Reports the counts and stops counting. */
  close (): void
}

/** A refused call costs the client nothing, so writing every refusal would let any client fill the disk. */
const WINDOW_MS = 60_000
/** Combinations of address, action and reason that are counted separately; all others are counted in one record. */
const MAX_KINDS = 10_000

/** `write` receives one event with a `count` for each kind that occurred more than once within the minute. */
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
