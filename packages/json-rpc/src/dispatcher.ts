import {
  ANONYMOUS, createCall, MartyError, type Call, type Guard, type GuardedOperation, type Principal
} from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { RpcConnection } from './connection.js'
import { writeError, writeResult, type RpcMessage, type RpcMistake, type RpcRequest } from './framing.js'
import type { CallableMethod, RpcContext } from './method.js'
import type { MethodRegistry } from './registry.js'

/** The sender of messages: a connection, or one POST request. */
export interface Peer {
  readonly connection: RpcConnection | null
  readonly address: string | null
  /** The request to search for credentials; null on a connection. */
  readonly request: IncomingMessage | null
  readonly log: FastifyBaseLogger
  readonly signal: AbortSignal
  /** The principal that authenticated last; it may have expired since. */
  readonly credential: Principal
  nextCallId (): string
  /** Reports the result of the checks: the principal before a call and the one after it. */
  settle (before: Principal, after: Principal): void
  /** Called for each call when it has ended; `limited` is true when a limit refused it. */
  countRefusal (limited: boolean): void
}

export interface Dispatcher {
  /** Processes a message and returns the serialized response; null when it requires none. Never rejects. */
  answer (message: RpcMessage, peer: Peer): Promise<string | null>
}

/** A call that the guard has allowed. */
interface Admitted {
  /**
   * Whether the credential expired, was revoked or was replaced while the call waited: the guard must check it again.
   */
  isStale (): boolean
  proceed (): Promise<unknown>
}

/** The checks of up to this many calls run together, so that their limits are one request to the rate limit store. */
const CHECKED_TOGETHER = 16

export function createDispatcher (guard: Guard, registry: MethodRegistry): Dispatcher {
  // Limits count unknown methods and invalid requests in the same way as valid calls.
  const unknownMethod = publicOperation(guard, 'unknown method')
  const invalidRequest = publicOperation(guard, 'invalid request')

  return {
    async answer (message, peer) {
      if (!message.batch) return await answerOne(message.elements[0]!, peer, peer.nextCallId())
      const answers: string[] = []
      for (const group of groupsOf(message.elements)) {
        const checking = group.map(element => {
          const callId = peer.nextCallId()
          const check = ask(element, callId, peer)
          // Avoid an unhandled rejection: the check may fail while an earlier call of the batch is still running.
          check.catch(() => {})
          return { element, callId, check }
        })
        for (const { element, callId, check } of checking) {
          const answer = await answerOne(element, peer, callId, check)
          if (answer !== null) answers.push(answer)
        }
      }
      return answers.length === 0 ? null : `[${answers.join(',')}]`
    }
  }

  /** Groups the calls of a batch whose checks run together. The calls themselves are still executed one by one. */
  function groupsOf (elements: RpcMessage['elements']): ReadonlyArray<RpcMessage['elements']> {
    const groups: Array<Array<RpcRequest | RpcMistake>> = []
    let takesMore = false
    for (const [i, element] of elements.entries()) {
      // The calls after it need its result: the credential of `authenticate`, or the credential of the POST request,
      // which the first call finds.
      const alone = i === 0 || authenticates(element)
      const last = groups.at(-1)
      if (!alone && takesMore && last !== undefined && last.length < CHECKED_TOGETHER) last.push(element)
      else groups.push([element])
      takesMore = !alone
    }
    return groups
  }

  function authenticates (element: RpcRequest | RpcMistake): boolean {
    return 'method' in element && registry.find(element.method)?.credentialOf != null
  }

  async function answerOne (
    element: RpcRequest | RpcMistake,
    peer: Peer,
    callId: string,
    check?: Promise<Admitted>
  ): Promise<string | null> {
    try {
      const admitted = await (check ?? ask(element, callId, peer))
      const result = await (
        check !== undefined && admitted.isStale() ? await ask(element, callId, peer) : admitted
      ).proceed()
      peer.countRefusal(false)
      return element.id === undefined ? null : writeResult(element.id, result)
    } catch (error) {
      peer.countRefusal(error instanceof MartyError && error.statusCode === 429)
      const answer = writeFailure(element, callId, error, peer.log)
      return element.id === undefined ? null : answer
    }
  }

  async function ask (element: RpcRequest | RpcMistake, callId: string, peer: Peer): Promise<Admitted> {
    if ('mistake' in element) return await refuse(invalidRequest, element.mistake, callId, peer)
    const method = registry.find(element.method)
    if (method === undefined) return await refuse(unknownMethod, registry.unknown(element.method), callId, peer)
    if (method.credentialOf !== null) return await authenticate(method, method.credentialOf, element, callId, peer)

    const before = peer.credential
    const guarded = createCall(method.operation, callId, peer.address, peer.request, before, null, true)
    try {
      const checked = method.operation.run(guarded)
      if (checked !== undefined) await checked
    } finally {
      peer.settle(before, guarded.principal)
    }
    const principal = effective(guarded.principal)
    return {
      isStale: () => effective(principal) !== principal || (before !== ANONYMOUS && peer.credential !== before),
      proceed: async () => await carryOut(method, element, guarded, createContext(guard, callId, principal, peer))
    }
  }

  async function carryOut (
    method: CallableMethod,
    element: RpcRequest,
    guarded: Call,
    context: RpcContext
  ): Promise<unknown> {
    let params: object
    try {
      params = method.readParams(element.params)
    } catch (mistake) {
      tell(method, context, mistake)
      throw mistake
    }
    if (guarded.pending !== null) await method.operation.finish(guarded, params, context)
    try {
      const result = await method.handler(params as never, context)
      tell(method, context, null)
      return result
    } catch (error) {
      tell(method, context, error)
      throw error
    }
  }

  /** Emits the outcome of audited calls that the guard allowed. For refused calls, the guard emits an event itself. */
  function tell ({ isAudited, name }: CallableMethod, { principal, address, id }: RpcContext, error: unknown): void {
    if (!isAudited) return
    const { code, statusCode } = error instanceof MartyError ? error : { code: 'MARTY_CORE_INTERNAL', statusCode: 500 }
    const reason = error === null ? null : code
    const outcome = reason === null ? 'success' : statusCode === 401 || statusCode === 403 ? 'denied' : 'failure'
    void guard.emit({ type: 'operation', action: name, outcome, reason, principal, address, requestId: id })
  }

  /** Validates the params before the checks run, because the params contain the credential. */
  async function authenticate (
    method: CallableMethod,
    credentialOf: (params: never) => string,
    element: RpcRequest,
    callId: string,
    peer: Peer
  ): Promise<Admitted> {
    let params: object
    try {
      params = method.readParams(element.params)
    } catch (mistake) {
      return await refuse(invalidRequest, mistake, callId, peer)
    }
    const guarded = createCall(method.operation, callId, peer.address, null, ANONYMOUS, credentialOf(params as never))
    await method.operation.run(guarded)
    return {
      isStale: () => false,
      proceed: async () => await method.handler(params as never, createContext(guard, callId, guarded.principal, peer))
    }
  }

  async function refuse (operation: GuardedOperation, mistake: unknown, callId: string, peer: Peer): Promise<never> {
    await operation.run(createCall(operation, callId, peer.address, peer.request, peer.credential))
    throw mistake
  }
}

/** Returns `ANONYMOUS` for an expired principal, because the checks of public operations do not test the expiry. */
export function effective (principal: Principal): Principal {
  return principal.expiresAt !== null && principal.expiresAt <= Date.now() ? ANONYMOUS : principal
}

function createContext (guard: Guard, id: string, principal: Principal, peer: Peer): RpcContext {
  let log: FastifyBaseLogger | undefined
  return {
    principal,
    id,
    connection: peer.connection,
    address: peer.address,
    signal: peer.signal,
    can: (permission, resource) => guard.can(principal, permission, resource),
    // Created on first use: most calls log nothing, and creating a child logger has a cost.
    get log () {
      log ??= peer.log.child({ request_id: id })
      return log
    }
  }
}

function writeFailure (
  element: RpcRequest | RpcMistake,
  callId: string,
  error: unknown,
  log: FastifyBaseLogger
): string {
  const id = element.id ?? null
  const method = 'mistake' in element ? null : element.method.slice(0, 64)
  if (error instanceof MartyError && error.statusCode !== 500) {
    // Only `debug`: refused calls cost the client nothing, so they must not fill the log. Security refusals are
    // reported to the sinks.
    log.debug({ request_id: callId, method, code: error.code, reason: error.reason }, 'call refused')
    try {
      return writeError(id, error.rpcCode, error.message, { ...error.data, code: error.code, request_id: callId })
    } catch (unwritable) {
      error = unwritable
    }
  }
  log.error({ err: error, request_id: callId, method }, 'call failed')
  return writeError(id, -32603, 'Internal error; the service has logged why', {
    code: 'MARTY_CORE_INTERNAL',
    request_id: callId
  })
}

function publicOperation (guard: Guard, name: string): GuardedOperation {
  const operation = guard.operation({
    name,
    transport: 'rpc',
    rule: { public: true },
    where: `the answer to an ${name}`
  })
  if (operation === null) throw new TypeError('an operation with a rule is always declared')
  return operation
}
