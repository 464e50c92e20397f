import { MartyError } from '@marty/core'
import parseJson from 'secure-json-parse'
import { ParseFailed, RequestInvalid } from './errors.js'

export type RpcId = string | number | null

/** One well-formed call; `id` is undefined for a notification. */
export interface RpcRequest {
  readonly id: RpcId | undefined
  readonly method: string
  readonly params: object | undefined
}

/** An element of a message that is not a valid call. It is answered even when its id is unknown. */
export interface RpcMistake {
  readonly id: RpcId
  readonly mistake: MartyError
}

/** The content of one text frame or request body. */
export interface RpcMessage {
  readonly batch: boolean
  readonly elements: ReadonlyArray<RpcRequest | RpcMistake>
}

export interface FramingLimits {
  readonly maxBatch: number
  readonly maxDepth: number
}

/** Parses a message as defined by JSON-RPC 2.0 (sections 4 and 6). Never throws. */
export function readMessage (text: string, limits: FramingLimits): RpcMessage {
  let value: unknown
  try {
    value = parseJson.parse(text)
  } catch {
    return oneMistake(new ParseFailed())
  }
  if (isDeeperThan(value, limits.maxDepth)) {
    return oneMistake(new RequestInvalid(`Invalid request: nested deeper than ${limits.maxDepth} levels`))
  }
  if (!Array.isArray(value)) return { batch: false, elements: [readRequest(value)] }
  if (value.length === 0) return oneMistake(new RequestInvalid('Invalid request: the batch is empty'))
  if (value.length > limits.maxBatch) {
    return oneMistake(new RequestInvalid(`Invalid request: the batch has more than ${limits.maxBatch} calls`))
  }
  return { batch: true, elements: value.map(readRequest) }
}

export function writeResult (id: RpcId, result: unknown): string {
  // JSON.stringify omits undefined members, but a response without `result` is not valid.
  return JSON.stringify({ jsonrpc: '2.0', id, result: result ?? null })
}

export function writeError (id: RpcId, code: number, message: string, data: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({ jsonrpc: '2.0', id, error: { code, message, data } })
}

export function writeNotification (method: string, params: object | undefined): string {
  return JSON.stringify({ jsonrpc: '2.0', method, params })
}

function oneMistake (mistake: MartyError): RpcMessage {
  return { batch: false, elements: [{ id: null, mistake }] }
}

function readRequest (value: unknown): RpcRequest | RpcMistake {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { id: null, mistake: new RequestInvalid('Invalid request: a call must be an object') }
  }
  const { jsonrpc, id, method, params } = value as Record<string, unknown>
  if (id !== undefined && !isId(id)) {
    return {
      id: null,
      mistake: new RequestInvalid('Invalid request: id must be a string, null, or a number that every JSON parser reads alike')
    }
  }
  const refuse = (message: string): RpcMistake => ({
    id: id ?? null,
    mistake: new RequestInvalid(`Invalid request: ${message}`)
  })
  if (jsonrpc !== '2.0') return refuse('jsonrpc must be "2.0"')
  if (typeof method !== 'string') return refuse('method must be a string')
  if (params !== undefined && (typeof params !== 'object' || params === null)) {
    return refuse('params must be an object or a list')
  }
  return { id, method, params }
}

/** Whether a value is a valid id. Numbers that JSON cannot represent exactly are refused: they could not be echoed. */
function isId (id: unknown): id is RpcId {
  if (typeof id === 'number') return Number.isInteger(id) ? Number.isSafeInteger(id) : Number.isFinite(id)
  return typeof id === 'string' || id === null
}

function isDeeperThan (value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (levels === 0) return true
  for (const member of Object.values(value)) {
    if (isDeeperThan(member, levels - 1)) return true
  }
  return false
}
