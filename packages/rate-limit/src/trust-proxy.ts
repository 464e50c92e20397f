import type { FastifyInstance } from 'fastify'

/**
 * Warns when the application trusts the `X-Forwarded-For` of every client: each client could then choose the address
 * it is counted by. Fastify has no public way to read the option, so it is read from Fastify's internal symbol; if
 * that is missing, there is no warning.
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

/** Own and inherited symbols: the instance of a plugin inherits from that of the application. */
function allSymbols (value: object | null): symbol[] {
  return value === null
    ? []
    : [...Object.getOwnPropertySymbols(value), ...allSymbols(Object.getPrototypeOf(value) as object | null)]
}
