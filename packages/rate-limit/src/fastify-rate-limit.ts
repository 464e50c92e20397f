import fastifyRateLimit, { type errorResponseBuilderContext } from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ClientBanned, RateLimitExceeded } from './errors.js'
import { verifyPluginSettings, verifyRouteSettings, type FastifyRateLimitSettings } from './fastify-rate-limit-settings.js'
import { storeOn, type Logs } from './fastify-rate-limit-store.js'
import { invalid } from './options.js'

/** Registers `@fastify/rate-limit` on the logs of this limiter. Its hooks are the routes' own, so they run after the guard's. */
export async function registerFastifyRateLimit (fastify: FastifyInstance, option: true | FastifyRateLimitSettings, logs: Logs): Promise<void> {
  const settings = option === true ? {} : option
  verifyPluginSettings(settings)
  if (fastify.hasPlugin('@fastify/rate-limit')) {
    throw invalid('fastifyRateLimit', 'registers @fastify/rate-limit, which this application has registered already; remove one of the two')
  }
  fastify.addHook('onRoute', ({ method, url, config }) => {
    const own: unknown = config?.rateLimit
    // Anything else but false the plugin refuses by itself.
    if (typeof own === 'object' && own !== null) verifyRouteSettings(`route ${[method].flat().join(',')} ${url}`, own)
  })
  await fastify.register(fastifyRateLimit, { errorResponseBuilder: refusal, ...settings, store: storeOn(() => logs) })
}

/** The same answer as for the limits of `config.security`. */
function refusal (request: FastifyRequest, { ban, ttl }: errorResponseBuilderContext): Error {
  const details = { headers: { 'cache-control': 'no-store' }, data: { retry_after_ms: ttl } }
  return ban ? new ClientBanned(details) : new RateLimitExceeded({ ...details, message: `Too many requests; the next one fits in ${ttl} ms` })
}
