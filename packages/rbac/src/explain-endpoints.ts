import { checkSchema } from '@marty/config'
import { didYouMean, type Principal, type SecurityRule } from '@marty/core'
import type { FastifyInstance } from 'fastify'
import type { Static, TArray, TObject, TOptional, TString, TUnsafe } from 'typebox'
import { ExplainRequestInvalid } from './errors.js'
import type { Explanation } from './engine/explain.js'
import { list, object, optional, record, text } from './parse/json-schema.js'
import type { Rbac } from './rbac.js'
import type { Permission } from './register.js'

const name = text({ minLength: 1, maxLength: 256 })

/** The request, the same for HTTP and JSON-RPC. */
const explainParams = object({
  principal: object({
    roles: list(name, { maxItems: 64 }),
    id: optional(name),
    kind: optional({ enum: ['user', 'service', 'key', 'anonymous'] }),
    scopes: optional(list(name, { maxItems: 64 })),
    claims: optional(record('^.*$', {}))
  }),
  permission: name,
  resource: optional(record('^.*$', {})),
  environment: optional(name)
})

/** The type that TypeBox would give the schema, so that the params of the RPC method have types. */
type ExplainSchema = TObject<{
  principal: TObject<{
    roles: TArray<TString>
    id: TOptional<TString>
    kind: TOptional<TUnsafe<Principal['kind']>>
    scopes: TOptional<TArray<TString>>
    claims: TOptional<TUnsafe<Record<string, unknown>>>
  }>
  permission: TString
  resource: TOptional<TUnsafe<Record<string, unknown>>>
  environment: TOptional<TString>
}>

export type ExplainParams = Static<ExplainSchema>

/** An explanation, and the policy it refers to. */
export interface ExplainAnswer extends Explanation {
  readonly environment: string
  readonly generation: number
  /** SHA-256 of the policy text, in hexadecimal. */
  readonly sha256: string
}

/** The method definition that `rpc.method` of `@marty/json-rpc` takes. */
export interface ExplainMethod {
  readonly name: 'policy.explain'
  readonly security: Pick<SecurityRule, 'permission'>
  readonly summary: string
  readonly params: ExplainSchema
  readonly handler: (params: ExplainParams) => ExplainAnswer
}

const RULE = { permission: 'policy:explain' as Permission } as const

/**
 * The RPC method `policy.explain`, for callers with the permission `policy:explain`:
 * `app.rpc.method(explainMethod(app.rbac))`.
 */
export function explainMethod (rbac: Rbac): ExplainMethod {
  return {
    name: 'policy.explain',
    security: RULE,
    summary: 'Why a caller is allowed a permission or not',
    params: explainParams as unknown as ExplainSchema,
    handler: params => answer(rbac, params)
  }
}

/** The same as a POST route; the plugin option `explainUrl` registers it. */
export function explainRoute (fastify: FastifyInstance, rbac: Rbac, url: string): void {
  fastify.post(url, { config: { security: RULE }, bodyLimit: 64 * 1024 }, async ({ body }, reply) => {
    // Validate with our own validator: the application's may remove unknown members or coerce types.
    checkSchema(body, explainParams, (_path, _part, message) => {
      throw new ExplainRequestInvalid(`The request for an explanation is not valid: ${message}`)
    })
    return await reply.header('cache-control', 'no-store').send(answer(rbac, body as ExplainParams))
  })
}

function answer (
  { policy, environment: here, service }: Rbac,
  { principal, permission, resource, environment = here }: ExplainParams
): ExplainAnswer {
  if (policy.permissionId(permission) === undefined) {
    throw new ExplainRequestInvalid(
      `The policy defines no permission "${permission}"${didYouMean(permission, policy.permissions)}`
    )
  }
  const place = policy.environmentNames.get(environment)
  if (place === undefined) {
    throw new ExplainRequestInvalid(
      `The policy defines no environment "${environment}"${didYouMean(environment, policy.environmentNames.keys())}`
    )
  }
  const explanation = policy.explain(principal.roles, permission, place, {
    principal: principal as Partial<Principal>,
    service,
    resource
  })
  return { ...explanation, environment: place, generation: policy.generation, sha256: policy.sha256 }
}
