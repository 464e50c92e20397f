import type { Guard, SecurityEvent } from '@marty/core'
import { Counter, type Registry } from 'prom-client'

/** Error codes come from source code, so there are far fewer; the bound is for codes of an application's own making. */
const MAX_REASONS = 200

/** Counts the security events of the guard. Only values from closed sets become labels. */
export function countSecurityEvents (guard: Guard, registry: Registry): void {
  const registers = [registry]
  const reasons = new Set<string>()
  const attempts = new Counter({
    name: 'auth_attempts_total',
    help: 'Credentials checked. A credential that is used again is counted once, a wrong one each time.',
    labelNames: ['method', 'status', 'reason'],
    registers
  })
  const events = new Counter({
    name: 'security_events_total',
    help: 'Security events by type and outcome; `reason` is the error code.',
    labelNames: ['type', 'outcome', 'reason'],
    registers
  })
  const calls = new Counter({
    name: 'rpc_calls_total',
    help: 'Audited JSON-RPC calls by method and outcome.',
    labelNames: ['method', 'outcome'],
    registers
  })
  let methods: ReadonlySet<string> | null = null

  guard.addSink(event => {
    const reason = reasonOf(event)
    events.inc({ type: event.type, outcome: event.outcome, reason })
    if (event.type === 'authentication') {
      attempts.inc({ method: methodOf(event), status: event.outcome === 'success' ? 'success' : 'failed', reason })
    }
    // Operations are complete when the first event comes, because declarations end before the start.
    methods ??= new Set(guard.operations().filter(({ transport }) => transport === 'rpc').map(({ name }) => name))
    if (methods.has(event.action)) calls.inc({ method: event.action, outcome: event.outcome })
  })

  function reasonOf ({ reason }: SecurityEvent): string {
    if (reason === null) return ''
    if (!reasons.has(reason)) {
      if (reasons.size === MAX_REASONS) return 'other'
      reasons.add(reason)
    }
    return reason
  }
}

const AUTHENTICATE = /^authenticate\.(jwt|apiKey|session|mtls)$/

/** The method is known for a credential that was accepted. A refused one may have been anything. */
function methodOf ({ action }: SecurityEvent): string {
  return AUTHENTICATE.exec(action)?.[1] ?? 'unknown'
}
