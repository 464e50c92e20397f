import type { Guard, Operation, OperationReport, SecurityRule } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import { withSecurity, type OpenApiDocument } from './openapi.js'
import type { Part } from './options.js'

/** The operations of the application and who may call them: `fastify.security`. */
export interface Security {
  readonly environment: string
  /**
   * Every operation of both transports with its rule, in order of declaration, including the handler of unknown URLs.
   */
  routes (): readonly Operation[]
  /**
   * The same with what each part does for them: who may call in words, the roles that the policy in use grants it to,
   * every limit, what is audited, whether it has headers of its own, and where it was declared.
   */
  report (): readonly OperationSecurity[]
  /**
   * Adds to an OpenAPI 3 document what the enforced rules mean for its operations: `security`, the responses 401, 403
   * and 429, `x-permission`, `x-roles` and `x-rate-limit`. For `transformObject` of `@fastify/swagger`.
   */
  openApi<Document extends OpenApiDocument> (document: Document): Document
}

/** One line of the report. */
export interface OperationSecurity extends OperationReport {
  /** Who may call it, in words: `anyone`, or `permission report:read`. */
  readonly who: string
}

export function createSecurity (guard: Guard, environment: string, sessionCookie: () => string | null): Security {
  const report = (): OperationSecurity[] =>
    guard.report().map(operation => ({ ...operation, who: whoMayCall(operation.rule) }))
  return {
    environment,
    routes: () => guard.operations().map(({ name, transport, rule }) => ({ name, transport, rule })),
    report,
    openApi: document =>
      withSecurity(document, { report: report(), methods: guard.methods(), sessionCookie: sessionCookie() })
  }
}

function isOpen ({ public: isPublic, authenticate }: SecurityRule): boolean {
  return isPublic === true || authenticate === 'optional'
}

function whoMayCall ({ public: isPublic, authenticate, permission, roles, when }: SecurityRule): string {
  if (isPublic === true) return 'anyone'
  if (authenticate === 'optional') return 'anyone, or signed in'
  const methods = Array.isArray(authenticate) ? `signed in by ${authenticate.join(' or ')}` : null
  const needed = [
    methods,
    roles === undefined ? null : `role ${roles.join(' or ')}`,
    permission === undefined ? null : `permission ${permission}${when === undefined ? '' : ', for this resource'}`
  ]
  return needed.filter(part => part !== null).join(', ') || 'anyone who is signed in'
}

/** Logs one line at every start that lists the public operations. */
export function logBootAudit (log: FastifyBaseLogger, security: Security, without: readonly Part[]): void {
  const routes = security.routes()
  const open = routes.filter(({ rule }) => isOpen(rule)).map(({ name }) => name)
  const line = `${routes.length} operations, ${open.length} public: ${open.join(', ')}`
  if (without.length === 0) {
    log.info({ environment: security.environment, operations: routes.length, public: open }, line)
  } else {
    log.warn(
      { environment: security.environment, operations: routes.length, public: open, without },
      `${line}; WITHOUT ${without.join(', ')}`
    )
  }
}
