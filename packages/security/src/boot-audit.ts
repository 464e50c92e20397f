import type { Guard, Operation } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import type { Part } from './options.js'

/** The operations of the application and who may call them: `fastify.security`. */
export interface Security {
  readonly environment: string
  /**
   * Every operation of both transports with its rule, in order of declaration, including the handler of unknown URLs.
   */
  routes (): readonly Operation[]
}

export function createSecurity (guard: Guard, environment: string): Security {
  return {
    environment,
    routes: () => guard.operations().map(({ name, transport, rule }) => ({ name, transport, rule }))
  }
}

/** Logs one line at every start that lists the public operations. */
export function logBootAudit (log: FastifyBaseLogger, security: Security, without: readonly Part[]): void {
  const routes = security.routes()
  const open = routes.filter(({ rule }) => rule.public === true).map(({ name }) => name)
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
