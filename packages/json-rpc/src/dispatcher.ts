import {
  ANONYMOUS, createCall, effectivePrincipal, MartyError, type Call, type Guard, type GuardedOperation, type Principal
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
  updateCredential (before: Principal, after: Principal): void
  /** Called for each call when it has ended; `limited` is true when a limit refused it. */
  countRefusal (limited: boolean): void
}

/** A call that the guard has allowed. */
interface Admitted {
  /**
   * Whether the credential expired, was revoked or was replaced while the call waited: the guard must check it again.
   */
  isStale (): boolean
  execute (): Promise<unknown>
}

/** The checks of up to this many calls run together, so that their limits are one request to the rate limit store. */
const CHECKED_TOGETHER = 16

/** Runs the calls of a message: the checks of the guard, then the handler. */
export class Dispatcher {
  readonly #guard: Guard
  readonly #registry: MethodRegistry
  // Limits count unknown methods and invalid requests in the same way as valid calls.
  readonly #unknownMethod: GuardedOperation
  readonly #invalidRequest: GuardedOperation

  constructor (guard: Guard, registry: MethodRegistry) {
    this.#guard = guard
    this.#registry = registry
    this.#unknownMethod = publicOperation(guard, 'unknown method')
    this.#invalidRequest = publicOperation(guard, 'invalid request')
  }

  /** Processes a message and returns the serialized response; null when it requires none. Never rejects. */
  async dispatch (message: RpcMessage, peer: Peer): Promise<string | null> {
    if (!message.batch) return await this.#call(message.elements[0]!, peer, peer.nextCallId())
    const responses: string[] = []
    for (const group of this.#groupsOf(message.elements)) {
      const admissions = group.map(element => {
        const callId = peer.nextCallId()
        const admission = this.#admit(element, callId, peer)
        // Avoid an unhandled rejection: the check may fail while an earlier call of the batch is still running.
        admission.catch(() => {})
        return { element, callId, admission }
      })
      for (const { element, callId, admission } of admissions) {
        const response = await this.#call(element, peer, callId, admission)
        if (response !== null) responses.push(response)
      }
    }
    return responses.length === 0 ? null : `[${responses.join(',')}]`
  }

  /** Groups the calls of a batch whose checks run together. The calls themselves are still executed one by one. */
  #groupsOf (elements: RpcMessage['elements']): ReadonlyArray<RpcMessage['elements']> {
    const groups: Array<Array<RpcRequest | RpcMistake>> = []
    let takesMore = false
    for (const [i, element] of elements.entries()) {
      // Later calls need the result of this one: the credential of `authenticate`, or the credential of the POST
      // request, which the first call finds.
      const alone = i === 0 || this.#authenticates(element)
      const last = groups.at(-1)
      if (!alone && takesMore && last !== undefined && last.length < CHECKED_TOGETHER) last.push(element)
      else groups.push([element])
      takesMore = !alone
    }
    return groups
  }

  #authenticates (element: RpcRequest | RpcMistake): boolean {
    return 'method' in element && this.#registry.find(element.method)?.credentialOf != null
  }

  /** Runs one call. `admission` is the result of its checks, if they have already been started. */
  async #call (
    element: RpcRequest | RpcMistake,
    peer: Peer,
    callId: string,
    admission: Promise<Admitted> | null = null
  ): Promise<string | null> {
    try {
      let admitted = await (admission ?? this.#admit(element, callId, peer))
      if (admission !== null && admitted.isStale()) admitted = await this.#admit(element, callId, peer)
      const result = await admitted.execute()
      peer.countRefusal(false)
      return element.id === undefined ? null : writeResult(element.id, result)
    } catch (error) {
      peer.countRefusal(error instanceof MartyError && error.statusCode === 429)
      const response = writeFailure(element, callId, error, peer.log)
      return element.id === undefined ? null : response
    }
  }

  /** Runs the checks of one call. Throws the error of the check that refuses. */
  async #admit (element: RpcRequest | RpcMistake, callId: string, peer: Peer): Promise<Admitted> {
    if ('mistake' in element) return await refuse(this.#invalidRequest, element.mistake, callId, peer)
    const { method: name } = element
    const method = this.#registry.find(name)
    if (method === undefined) return await refuse(this.#unknownMethod, this.#registry.unknown(name), callId, peer)
    const { credentialOf } = method
    if (credentialOf !== null) return await this.#authenticate(method, credentialOf, element, callId, peer)

    const before = peer.credential
    const call = createCall(method.operation, callId, peer.address, peer.request, before, null, true)
    try {
      const verdict = method.operation.decide(call)
      if (verdict !== undefined) await throwRefusal(verdict)
    } finally {
      peer.updateCredential(before, call.principal)
    }
    const principal = effectivePrincipal(call.principal)
    return {
      isStale: () => {
        return effectivePrincipal(principal) !== principal || (before !== ANONYMOUS && peer.credential !== before)
      },
      execute: async () => {
        return await this.#execute(method, element, call, createContext(this.#guard, callId, principal, peer))
      }
    }
  }

  async #execute (method: CallableMethod, element: RpcRequest, call: Call, context: RpcContext): Promise<unknown> {
    let params: object
    try {
      params = method.readParams(element.params)
    } catch (mistake) {
      this.#emitOutcome(method, context, mistake)
      throw mistake
    }
    if (call.pending !== null) {
      call.input = [params, context]
      await throwRefusal(method.operation.decide(call))
    }
    try {
      const result = await method.handler(params as never, context)
      this.#emitOutcome(method, context, null)
      return result
    } catch (error) {
      this.#emitOutcome(method, context, error)
      throw error
    }
  }

  /** Emits the outcome of audited calls that the guard allowed. For refused calls, the guard emits an event itself. */
  #emitOutcome ({ isAudited, name }: CallableMethod, context: RpcContext, error: unknown): void {
    if (!isAudited) return
    const { principal, address, id: requestId } = context
    const { code, statusCode } = error instanceof MartyError ? error : { code: 'MARTY_CORE_INTERNAL', statusCode: 500 }
    const failure = statusCode === 401 || statusCode === 403 ? 'denied' : 'failure'
    void this.#guard.emit({
      type: 'operation',
      action: name,
      outcome: error === null ? 'success' : failure,
      reason: error === null ? null : code,
      principal,
      address,
      requestId
    })
  }

  /** Validates the params before the checks run, because the params contain the credential. */
  async #authenticate (
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
      return await refuse(this.#invalidRequest, mistake, callId, peer)
    }
    const call = createCall(method.operation, callId, peer.address, null, ANONYMOUS, credentialOf(params as never))
    await throwRefusal(method.operation.decide(call))
    return {
      isStale: () => false,
      execute: async () => {
        return await method.handler(params as never, createContext(this.#guard, callId, call.principal, peer))
      }
    }
  }
}

/** Throws the error of an invalid call, unless a check of the operation refuses the caller first. */
async function refuse (operation: GuardedOperation, mistake: unknown, callId: string, peer: Peer): Promise<never> {
  const call = createCall(operation, callId, peer.address, peer.request, peer.credential)
  await throwRefusal(operation.decide(call))
  throw mistake
}

async function throwRefusal (verdict: ReturnType<GuardedOperation['decide']>): Promise<void> {
  const refusal = await verdict
  if (refusal !== undefined) throw refusal
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
