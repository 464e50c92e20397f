import { ANONYMOUS, type Principal } from '@marty/core'
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { Dispatcher, Peer } from './dispatcher.js'
import { readMessage } from './framing.js'
import { assertOriginAllowed } from './origin.js'
import type { ResolvedOptions } from './options.js'

/** Serves the same methods by POST. All calls of a batch use the credential in the headers of the request. */
export async function servePost (
  fastify: FastifyInstance,
  path: string,
  dispatcher: Dispatcher,
  options: ResolvedOptions
): Promise<void> {
  await fastify.register(async scope => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
      done(null, body)
    })
    scope.post<{ Body: string }>(
      path,
      {
        config: { security: options.transportSecurity },
        bodyLimit: options.maxPayloadBytes,
        onRequest: async request => {
          assertOriginAllowed(request, options)
        }
      },
      async (request, reply) => {
        const message = readMessage(request.body ?? '', options)
        const response = await dispatcher.dispatch(message, new PostPeer(request, reply))
        // Errors of calls are responses too: they belong in the body, on every transport.
        if (response === null) return reply.code(204).send()
        return reply.type('application/json; charset=utf-8').send(response)
      }
    )
  })
}

class PostPeer implements Peer {
  readonly connection = null
  readonly address: string | null
  readonly request: IncomingMessage
  readonly log: FastifyBaseLogger
  readonly signal: AbortSignal
  credential: Principal = ANONYMOUS
  readonly #id: string
  #calls = 0

  constructor (request: FastifyRequest, reply: FastifyReply) {
    this.address = request.ip ?? null
    this.request = request.raw
    this.log = request.log
    this.#id = request.id
    const gone = new AbortController()
    reply.raw.once('close', () => { if (!reply.raw.writableFinished) gone.abort() })
    this.signal = gone.signal
  }

  nextCallId (): string { return `${this.#id}.${++this.#calls}` }

  updateCredential (before: Principal, after: Principal): void {
    // A call that did not check the credential must not overwrite the principal that another call found.
    if (after !== before) this.credential = after
  }

  // Nothing to count: one request has at most `maxBatch` calls, and the next request is another peer.
  countRefusal (): void {}
}
