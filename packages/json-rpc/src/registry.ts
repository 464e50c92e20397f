import { closest, RuleMissing, type Guard, type SecurityRule } from '@marty/core'
import { Type, type Static, type TObject, type TSchema } from 'typebox'
import { MethodDuplicate, MethodInvalid, MethodUnknown } from './errors.js'
import type { CallableMethod, RpcMethodOptions } from './method.js'
import { compileParams } from './params.js'

export interface MethodRegistry {
  /** `credentialOf` reads the credential from the params of a method that authenticates. */
  declare<Params extends TObject, Result extends TSchema>(
    options: RpcMethodOptions<Params, Result>,
    credentialOf?: (params: Static<Params>) => string
  ): void
  find(name: string): CallableMethod | undefined
  all(): readonly CallableMethod[]
  /** The error for a name that is not declared. */
  unknown(name: string): Error
}

const NAME = /^(?!rpc\.)[A-Za-z][A-Za-z0-9_.]{0,63}$/

export function createRegistry (guard: Guard): MethodRegistry {
  const methods = new Map<string, CallableMethod>()
  return {
    declare (options, credentialOf) {
      const { name, security, summary, result, handler } = options
      if (typeof name !== 'string' || !NAME.test(name)) {
        throw new MethodInvalid(
          `method ${JSON.stringify(name)}: a name has at most 64 letters, digits, "_" and ".", starts with a letter ` +
            'and does not start with "rpc."'
        )
      }
      if (methods.has(name)) throw new MethodDuplicate(`method ${name} is declared twice`)
      if (typeof handler !== 'function') throw new MethodInvalid(`method ${name}: handler must be a function`)
      const operation = guard.operation({
        name,
        transport: 'rpc',
        rule: security as SecurityRule,
        where: `method ${name}`
      })
      if (operation === null) {
        // A strict guard reports it, together with all other missing rules, when the application becomes ready.
        if (guard.strict) return
        throw new RuleMissing(
          `method ${name} does not say who may call it; add security: { permission: 'resource:action' }, or { ` +
            'public: true } if anyone may call it'
        )
      }
      const params = closed(name, options.params)
      methods.set(name, Object.freeze({
        name,
        summary: summary ?? null,
        security: operation.rule,
        params,
        result: result ?? null,
        operation,
        readParams: compileParams(params),
        handler: handler as CallableMethod['handler'],
        isAudited: asksForAudit(operation.rule),
        credentialOf: credentialOf === undefined ? null : credentialOf as CallableMethod['credentialOf']
      }))
    },
    find: name => methods.get(name),
    all: () => [...methods.values()],
    unknown (name) {
      const near = closest(name.slice(0, 64), methods.keys())
      return new MethodUnknown('Method not found' + (near === null ? '' : `; did you mean "${near}"?`))
    }
  }
}

/**
 * Checks `audit`, which the audit package adds to rules. This package does not depend on the audit package; without it,
 * no rule has this member.
 */
function asksForAudit (rule: SecurityRule & { readonly audit?: unknown }): boolean {
  return rule.audit === 'all' || rule.audit === 'required'
}

function closed (name: string, schema: TObject | undefined): TObject {
  if (schema === undefined) return Type.Object({}, { additionalProperties: false })
  if (schema.type !== 'object' || typeof schema.properties !== 'object') {
    throw new MethodInvalid(`method ${name}: params must be a Type.Object`)
  }
  return 'additionalProperties' in schema
    ? schema
    : Object.assign(Type.Object(schema.properties), { ...schema, additionalProperties: false })
}
