import { createSampler } from '@marty/core'
import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { cutStalledReaders, slowClientOptions } from '../../slow-clients.js'
import type { MediaSessions } from '../../mediamtx/media-sessions.js'
import type { Decision, MediaAuthRequest, StreamAuthority } from '../../mediamtx/stream-auth.js'

/** Short, because MediaMTX, the only client, runs on this machine. */
const STALLED_MS = 10_000

/** Refusals are sampled in the log, because anyone can cause them with wrong stream URLs. */
const LOGGED = { windowMs: 10_000, perKind: 10, maxKinds: 100 }

const text = Type.Union([Type.String({ maxLength: 8192 }), Type.Null()])

/**
 * The loopback listener for MediaMTX's authentication requests. Its path is a secret of this process, so that no other
 * program on the machine can send requests. The response is only yes or no.
 */
export function mediaAuthServer (
  authority: StreamAuthority, sessions: MediaSessions, secretPath: string, log: FastifyBaseLogger
): FastifyInstance {
  const slow = slowClientOptions(STALLED_MS)
  const app = Fastify({
    logger: false, ...slow.fastify, http: slow.server, bodyLimit: 64 * 1024, forceCloseConnections: true
  })
  cutStalledReaders(app, STALLED_MS)
  const refusals = createSampler<string>({
    ...LOGGED,
    report: ({ first: reason, count, since }) => {
      log.info({ reason, count, since }, 'media access was refused more often than it is logged')
    }
  })
  app.addHook('onClose', async () => { refusals.close() })
  app.post<{ Body: MediaAuthRequest }>(secretPath, {
    schema: {
      body: Type.Object({
        ip: text,
        user: text,
        password: text,
        token: text,
        action: Type.String(),
        path: text,
        protocol: text,
        id: text,
        query: text
      }, { additionalProperties: true })
    }
  }, async (request, reply) => {
    const { allowed, reason } = admit(normalise(request.body))
    if (!allowed && reason !== 'no credential' && refusals.passes(reason, reason)) {
      log.info(
        {
          action: request.body.action,
          path: request.body.path,
          protocol: request.body.protocol,
          ip: request.body.ip,
          reason
        },
        'media access refused'
      )
    }
    return await reply.code(allowed ? 204 : 401).send()
  })
  return app

  /** Allows a reader only if the service can end its session later. */
  function admit (request: MediaAuthRequest): Decision {
    const decision = authority.decide(request)
    if (decision.reader === undefined || sessions.add(request, decision.reader)) return decision
    return { allowed: false, reason: 'too many media sessions, or an unknown protocol' }
  }
}

function normalise (body: MediaAuthRequest): MediaAuthRequest {
  const { password, token, path, protocol, id, query } = body
  return {
    ...body,
    password: password ?? '',
    token: token ?? '',
    path: path ?? '',
    protocol: protocol ?? '',
    id: id ?? null,
    query: query ?? ''
  }
}
