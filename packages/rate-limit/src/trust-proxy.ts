import type { FastifyInstance } from 'fastify'

/**
 * Warns when the application believes everybody's `X-Forwarded-For`: each client would then choose the address it is counted by.
 * Fastify does not tell its option, so it is read where Fastify keeps it; elsewhere nothing is said.
 */
export function warnOfTrustedClients (fastify: FastifyInstance): void {
  const symbol = allSymbols(fastify).find(({ description }) => description === 'fastify.options')
  if (symbol === undefined) return
  const options = (fastify as unknown as Record<symbol, { readonly trustProxy?: unknown } | undefined>)[symbol]
  if (options?.trustProxy !== true) return
  fastify.log.warn(
    'trustProxy is true, so every client chooses its own address and no limit by address holds; set it to the ' +
      'addresses of your proxies'
  )
}

/** A plugin's instance inherits from the application's. */
function allSymbols (value: object | null): symbol[] {
  return value === null
    ? []
    : [...Object.getOwnPropertySymbols(value), ...allSymbols(Object.getPrototypeOf(value) as object | null)]
}
