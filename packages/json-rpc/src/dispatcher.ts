import { ANONYMOUS, createCall, MartyError, type Guard, type GuardedOperation, type Principal } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import type { IncomingHttpHeaders } from 'node:http'
import type { RpcConnection } from './connection.js'
import { writeError, writeResult, type RpcMessage, type RpcMistake, type RpcRequest } from './framing.js'
import type { RpcContext } from './method.js'
import type { MethodRegistry } from './registry.js'

/** Who sends messages: a connection, or one POST. */
export interface Peer {
  readonly connection: RpcConnection | null
  readonly address: string | null
  /** Headers to look for credentials in; null on a connection. */
  readonly headers: IncomingHttpHeaders | null
  readonly log: FastifyBaseLogger
  readonly signal: AbortSignal
  /** Who authenticated last, which may have expired since. */
  readonly credential: Principal
  nextCallId (): string
  /** Tells what the checks found out about the principal a call started with. */
  settle (before: Principal, after: Principal): void
}

export interface Dispatcher {
  /** Works a message off and writes its answer; null when it asks for none. Never rejects. */
  answer (message: RpcMessage, peer: Peer): Promise<string | null>
}

export function createDispatcher (guard: Guard, registry: MethodRegistry): Dispatcher {
  // What is no call of ours costs the caller like one that is.
  const unknownMethod = publicOperation(guard, 'unknown method')
  const invalidRequest = publicOperation(guard, 'invalid request')

  return {
    async answer (message, peer) {
      if (!message.batch) return await answerOne(message.elements[0]!, peer)
      const answers: string[] = []
      // In order: an `authenticate` first in a batch holds for the calls after it.
      for (const element of message.elements) {
        const answer = await answerOne(element, peer)
        if (answer !== null) answers.push(answer)
      }
      return answers.length === 0 ? null : `[${answers.join(',')}]`
    }
  }

  async function answerOne (element: RpcRequest | RpcMistake, peer: Peer): Promise<string | null> {
    const callId = peer.nextCallId()
    try {
      const result = await call(element, callId, peer)
      return element.id === undefined ? null : writeResult(element.id, result)
    } catch (error) {
      const answer = writeFailure(element, callId, error, peer.log)
      return element.id === undefined ? null : answer
    }
  }

  async function call (element: RpcRequest | RpcMistake, callId: string, peer: Peer): Promise<unknown> {
    const method = 'mistake' in element ? undefined : registry.find(element.method)
    const operation = method?.operation ?? ('mistake' in element ? invalidRequest : unknownMethod)
    const before = peer.credential
    const guarded = createCall(operation, callId, peer.address, peer.headers, before)
    try {
      const checked = operation.run(guarded)
      if (checked !== undefined) await checked
    } finally {
      peer.settle(before, guarded.principal)
    }
    if ('mistake' in element) throw element.mistake
    if (method === undefined) throw registry.unknown(element.method)
    const params = method.readParams(element.params)
    return await method.handler(params as never, createContext(callId, effective(guarded.principal), peer))
  }
}

/** Checks of public operations ask nobody whether the credential of the connection has expired. */
export function effective (principal: Principal): Principal {
  return principal.expiresAt !== null && principal.expiresAt <= Date.now() ? ANONYMOUS : principal
}

function createContext (id: string, principal: Principal, peer: Peer): RpcContext {
  let log: FastifyBaseLogger | undefined
  return {
    principal,
    id,
    connection: peer.connection,
    address: peer.address,
    signal: peer.signal,
    // Most calls log nothing, and a child logger is not free.
    get log () {
      log ??= peer.log.child({ request_id: id })
      return log
    }
  }
}

function writeFailure (element: RpcRequest | RpcMistake, callId: string, error: unknown, log: FastifyBaseLogger): string {
  const id = element.id ?? null
  const method = 'mistake' in element ? null : element.method.slice(0, 64)
  if (error instanceof MartyError && error.statusCode !== 500) {
    log.info({ request_id: callId, method, code: error.code }, 'call refused')
    try {
      return writeError(id, error.rpcCode, error.message, { ...error.data, code: error.code, request_id: callId })
    } catch (unwritable) {
      error = unwritable
    }
  }
  log.error({ err: error, request_id: callId, method }, 'call failed')
  return writeError(id, -32603, 'Internal error; the service has logged why', { code: 'MARTY_CORE_INTERNAL', request_id: callId })
}

function publicOperation (guard: Guard, name: string): GuardedOperation {
  const operation = guard.operation({ name, transport: 'rpc', rule: { public: true }, where: `the answer to an ${name}` })
  if (operation === null) throw new TypeError('an operation with a rule is always declared')
  return operation
}
