import { didYouMean, type Principal, type SecurityRule } from '@marty/core'
import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { Compile } from 'typebox/compile'
import { ExplainRequestInvalid } from './errors.js'
import type { Explanation } from './engine/explain.js'
import type { Rbac } from './rbac.js'
import type { Permission } from './register.js'

const name = (): Type.TString => Type.String({ minLength: 1, maxLength: 256 })

/** The request, the same for HTTP and JSON-RPC. */
const explainParams: Type.TObject<{
  principal: Type.TObject<{
    roles: Type.TArray<Type.TString>
    id: Type.TOptional<Type.TString>
    kind: Type.TOptional<
      Type.TUnion<[Type.TLiteral<'user'>, Type.TLiteral<'service'>, Type.TLiteral<'key'>, Type.TLiteral<'anonymous'>]>
    >
    scopes: Type.TOptional<Type.TArray<Type.TString>>
    claims: Type.TOptional<Type.TRecord<'^.*$', Type.TUnknown>>
  }>
  permission: Type.TString
  resource: Type.TOptional<Type.TRecord<'^.*$', Type.TUnknown>>
  environment: Type.TOptional<Type.TString>
}> = Type.Object(
  {
    principal: Type.Object(
      {
        roles: Type.Array(name(), { maxItems: 64 }),
        id: Type.Optional(name()),
        kind: Type.Optional(
          Type.Union([Type.Literal('user'), Type.Literal('service'), Type.Literal('key'), Type.Literal('anonymous')])
        ),
        scopes: Type.Optional(Type.Array(name(), { maxItems: 64 })),
        claims: Type.Optional(Type.Record(Type.String(), Type.Unknown()))
      },
      { additionalProperties: false }
    ),
    permission: name(),
    resource: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    environment: Type.Optional(name())
  },
  { additionalProperties: false }
)

export type ExplainParams = Static<typeof explainParams>

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
  readonly params: typeof explainParams
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
    params: explainParams,
    handler: params => answer(rbac, params)
  }
}

/** The same as a POST route; the plugin option `explainUrl` registers it. */
export function explainRoute (fastify: FastifyInstance, rbac: Rbac, url: string): void {
  const validator = Compile(explainParams)
  fastify.post(url, { config: { security: RULE }, bodyLimit: 64 * 1024 }, async ({ body }, reply) => {
    // Validate with our own validator: the application's may remove unknown members or coerce types.
    if (!validator.Check(body)) {
      const [first] = validator.Errors(body)
      throw new ExplainRequestInvalid(
        `The request for an explanation is not valid: ${first?.instancePath || 'it'} ${first?.message}`
      )
    }
    return await reply.header('cache-control', 'no-store').send(answer(rbac, body))
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
