import type { Guard, SecurityEvent, SecurityEventType, SecurityRule } from '@marty/core'

const ABOUT_OPERATIONS: readonly SecurityEventType[] = ['authentication', 'authorization', 'limit', 'operation']

/** Decides by the rule of its operation whether an event from the guard is written. */
export function createRuleFilter (guard: Guard): (event: SecurityEvent) => boolean {
  const rules = new Map<string, SecurityRule>()
  const ruleOf = (action: string): SecurityRule | undefined => {
    // Read the operations again for an unknown name: some may be declared after the first event.
    if (!rules.has(action)) for (const { name, rule } of guard.operations()) rules.set(name, rule)
    return rules.get(action)
  }
  return event => {
    if (!ABOUT_OPERATIONS.includes(event.type)) return true
    const rule = ruleOf(event.action)
    if (rule === undefined) return true
    switch (rule.audit ?? 'denied') {
      case 'none': return false
      case 'denied': return event.outcome !== 'success'
      case 'all': case 'required': return true
    }
  }
}
