import { createSampler } from '@marty/core'
import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import type { MediaAuthRequest, StreamAuthority } from '../../mediamtx/stream-auth.js'

/** A wrong stream address costs whoever tries it nothing. */
const LOGGED = { windowMs: 10_000, perKind: 10, maxKinds: 100 }

const text = Type.Union([Type.String({ maxLength: 8192 }), Type.Null()])

/**
 * The loopback listener on which MediaMTX asks who may do what. The path is a secret of this process, so that nobody
 * else on the machine can ask; the answer is only yes or no.
 */
export function mediaAuthServer (authority: StreamAuthority, secretPath: string, log: FastifyBaseLogger): FastifyInstance {
  const app = Fastify({ logger: false, bodyLimit: 64 * 1024, requestTimeout: 5000, forceCloseConnections: true })
  const refusals = createSampler<string>({
    ...LOGGED,
    report: ({ first: reason, count, since }) => { log.info({ reason, count, since }, 'more media access refused than is logged one by one') }
  })
  app.addHook('onClose', async () => { refusals.close() })
  app.post<{ Body: MediaAuthRequest }>(secretPath, {
    schema: {
      body: Type.Object({
        ip: text, user: text, password: text, token: text, action: Type.String(), path: text, protocol: text, query: text
      }, { additionalProperties: true })
    }
  }, async (request, reply) => {
    const { allowed, reason } = authority.decide(normalise(request.body))
    if (!allowed && reason !== 'no credential' && refusals.passes(reason, reason)) {
      log.info({ action: request.body.action, path: request.body.path, protocol: request.body.protocol, ip: request.body.ip, reason }, 'media access refused')
    }
    return await reply.code(allowed ? 204 : 401).send()
  })
  return app
}

function normalise (body: MediaAuthRequest): MediaAuthRequest {
  return { ...body, password: body.password ?? '', token: body.token ?? '', path: body.path ?? '', query: body.query ?? '' }
}
