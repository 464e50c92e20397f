import type { Guard, Operation } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import type { Part } from './options.js'

/** What may be called, and by whom: `fastify.security`. */
export interface Security {
  readonly environment: string
  /** Every operation of both transports with its rule, in the order of declaration; the answer to unknown URLs is one. */
  routes (): readonly Operation[]
}

export function createSecurity (guard: Guard, environment: string): Security {
  return {
    environment,
    routes: () => guard.operations().map(({ name, transport, rule }) => ({ name, transport, rule }))
  }
}

/** One line that tells at every start what anybody may call. */
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
