import { RuleInvalid, type Check, type SecurityEvent } from '@marty/core'

const VALUES = ['all', 'denied', 'none', 'required']

/**
 * Validates `security.audit`. It is in the admit stage, which does not need to know the
 * caller: a public route may be audited.
 */
export function auditRuleCheck (canBeAwaited: boolean, isOn: boolean): Check {
  return {
    name: 'audit',
    stage: 'admit',
    keys: ['audit'],
    describe: ({ rule }) => ({ audit: isOn ? rule.audit ?? 'denied' : 'none' }),
    compile ({ name, rule }) {
      if (rule.audit !== undefined && !VALUES.includes(rule.audit)) {
        throw new RuleInvalid(`${name}: security.audit must be one of ${VALUES.join(', ')}`)
      }
      if (rule.audit === 'required' && !canBeAwaited) {
        throw new RuleInvalid(
          `${name}: security.audit is "required", which needs a sink that can be waited for: a file in mode "sync", ` +
            '"stdout" or your own'
        )
      }
      return null
    }
  }
}

/** Records the attempt of an `audit: 'required'` operation before the operation runs; throws when that fails. */
export function auditRequiredCheck (record: (event: SecurityEvent) => Promise<void>): Check {
  return {
    name: 'audit-required',
    stage: 'authorize',
    keys: [],
    compile ({ name, rule }) {
      if (rule.audit !== 'required') return null
      return async call => {
        const { id, kind, roles } = call.principal
        await record({
          type: 'operation',
          action: name,
          outcome: 'success',
          reason: null,
          principal: { id, kind, roles },
          address: call.address,
          requestId: call.id,
          details: { phase: 'attempt' }
        })
      }
    }
  }
}
