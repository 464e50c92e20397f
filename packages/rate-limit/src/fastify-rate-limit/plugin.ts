import fastifyRateLimit, { type RateLimitPluginOptions } from '@fastify/rate-limit'
import type { SecurityRule } from '@marty/core'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ClientBanned, RateLimitExceeded } from '../errors.js'
import {
  verifyPluginSettings, verifyRouteSettings, type FastifyRateLimitRefusal, type FastifyRateLimitSettings
} from './settings.js'
import { storeOn, type Windows } from './store.js'
import { invalid, optionInvalid } from '../option-scope.js'

/**
 * Registers `@fastify/rate-limit` on the store of this limiter. Its hooks belong to the
 * routes, so they run after the guard's.
 */
export async function registerFastifyRateLimit (
  fastify: FastifyInstance,
  option: true | FastifyRateLimitSettings,
  windows: Windows
): Promise<void> {
  const settings = option === true ? {} : option
  verifyPluginSettings(settings)
  if (fastify.hasPlugin('@fastify/rate-limit')) {
    throw optionInvalid(
      'fastifyRateLimit',
      'registers @fastify/rate-limit, which this application has registered already; remove one of the two'
    )
  }
  fastify.addHook('onRoute', route => {
    const where = `route ${[route.method].flat().join(',')} ${route.url}`
    const own: unknown = route.config?.rateLimit
    const isExempt = (route.config as { security?: SecurityRule } | undefined)?.security?.limits === false
    if (isExempt && own !== undefined && own !== false) {
      throw invalid(
        `${where}: config.rateLimit`,
        'limits a route whose config.security says limits: false; remove one of the two'
      )
    }
    if (isExempt) route.config = { ...route.config, rateLimit: false } as NonNullable<typeof route.config>
    // `@fastify/rate-limit` itself refuses any other value except false.
    if (typeof own === 'object' && own !== null) verifyRouteSettings(where, own)
  })
  await fastify.register(fastifyRateLimit, {
    errorResponseBuilder: refusal,
    ...settings,
    store: storeOn(() => windows)
  } as RateLimitPluginOptions)
}

/** Creates the same response as for the limits of `config.security`. */
function refusal (request: FastifyRequest, { ban, ttl }: FastifyRateLimitRefusal): Error {
  const details = { headers: { 'cache-control': 'no-store' }, data: { retry_after_ms: ttl } }
  return ban
    ? new ClientBanned(details)
    : new RateLimitExceeded({ ...details, message: `Too many requests; the next one fits in ${ttl} ms` })
}
