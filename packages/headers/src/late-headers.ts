import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { HeaderList } from './helmet.js'

/** Headers that are the same for many responses, prepared for {@link addLateHeaders}. */
export interface FixedHeaders {
  readonly list: HeaderList
  /** Names and values in turn, as `writeHead` accepts them. */
  readonly flat: readonly string[]
  /** The values by name, in lower case. */
  readonly byName: ReadonlyMap<string, string>
}

/**
 * Headers that depend on what happened to the request. Returns them as names and values in turn. A header that is set
 * already is `present`, and replaced when its name is returned.
 */
export type DecideHeaders = (present: PresentHeader) => string[]
/** The value of a header that is set already; the name is in lower case. */
export type PresentHeader = (name: string) => unknown

interface LateHeaders {
  /** Null as soon as they are set on the response. */
  fixed: FixedHeaders | null
  readonly decide: DecideHeaders
  /** The methods that the response had before. */
  readonly own: ServerResponse
}

const METHODS = [
  'writeHead', 'getHeader', 'hasHeader', 'getHeaders', 'getHeaderNames', 'removeHeader', 'appendHeader'
] as const

const kLate: unique symbol = Symbol('marty.headers')
type LateResponse = ServerResponse & { [kLate]?: LateHeaders }
type Head = OutgoingHttpHeaders | readonly unknown[] | undefined

export function fixedHeaders (list: HeaderList): FixedHeaders {
  return { list, flat: list.flat(), byName: new Map(list) }
}

/** Whether {@link addLateHeaders} was called for this response. */
export function hasLateHeaders (response: LateResponse): boolean {
  return response[kLate] !== undefined
}

/**
 * Adds headers when the head of the response is written. Until then, the methods of the response show the fixed ones,
 * and whatever is set there or passed to `writeHead` takes precedence.
 *
 * A `setHeader` for each of them and the merge in `writeHead` would take Node twice as long as `writeHead` with one
 * array. A changed prototype would be one assignment instead of seven, but V8 then handles every response slowly.
 */
export function addLateHeaders (response: LateResponse, fixed: FixedHeaders, decide: DecideHeaders): void {
  response[kLate] = { fixed, decide, own: methodsOf(response) }
  response.writeHead = writeHead as ServerResponse['writeHead']
  response.getHeader = getHeader as ServerResponse['getHeader']
  response.hasHeader = hasHeader
  response.getHeaders = getHeaders
  response.getHeaderNames = getHeaderNames
  response.removeHeader = removeHeader
  response.appendHeader = appendHeader
}

function writeHead (this: LateResponse, status: number, ...rest: Array<string | Head>): ServerResponse {
  const { fixed, decide, own } = this[kLate]!
  const head = rest.find(part => typeof part === 'object')
  const isUntouched = fixed !== null && own.getHeaderNames.call(this).length === 0
  if (isUntouched && rest.length === 1 && isPlain(head) && isLowerCase(head)) {
    return own.writeHead.call(this, status, merge(fixed, decide, head) as never)
  }
  setFixedHeaders(this)
  const given = grouped(isPlain(head) ? Object.entries(head) : pairs(head))
  const decided = pairs(decide(name => given.get(name) ?? own.getHeader.call(this, name)))
  for (const [name, value] of decided) {
    own.setHeader.call(this, name, value as string)
    given.delete(name)
  }
  const text = rest.filter(part => typeof part === 'string')
  return own.writeHead.call(this, status, ...text as [], [...given].flatMap(([name, value]) => [name, value]) as never)
}

/** The usual case: nothing is set on the response, and Fastify passes its own headers as an object, in lower case. */
function merge (fixed: FixedHeaders, decide: DecideHeaders, head: OutgoingHttpHeaders): unknown[] {
  const all: unknown[] = decide(name => head[name])
  const decided = all.length
  let isReplacing = false
  for (const name in head) {
    if (decided > 0 && all.findIndex((one, i) => i < decided && i % 2 === 0 && one === name) !== -1) continue
    isReplacing ||= fixed.byName.has(name)
    all.push(name, head[name])
  }
  return all.concat(isReplacing ? fixed.list.filter(([name]) => head[name] === undefined).flat() : fixed.flat)
}

function isLowerCase (head: OutgoingHttpHeaders): boolean {
  for (const name in head) if (name !== name.toLowerCase()) return false
  return true
}

function getHeader (this: LateResponse, name: string): OutgoingHttpHeaders[string] {
  return this[kLate]!.own.getHeader.call(this, name) ?? this[kLate]!.fixed?.byName.get(name.toLowerCase())
}

function hasHeader (this: LateResponse, name: string): boolean {
  return this[kLate]!.own.hasHeader.call(this, name) || this[kLate]!.fixed?.byName.has(name.toLowerCase()) === true
}

function getHeaders (this: LateResponse): OutgoingHttpHeaders {
  setFixedHeaders(this)
  const { fixed, own } = this[kLate]!
  const set = own.getHeaders.call(this)
  return fixed === null ? set : { ...Object.fromEntries(fixed.byName), ...set }
}

function getHeaderNames (this: LateResponse): string[] {
  return Object.keys(this.getHeaders())
}

function removeHeader (this: LateResponse, name: string): void {
  setFixedHeaders(this)
  this[kLate]!.own.removeHeader.call(this, name)
}

function appendHeader (this: LateResponse, name: string, value: string | readonly string[]): ServerResponse {
  setFixedHeaders(this)
  return this[kLate]!.own.appendHeader.call(this, name, value)
}

/**
 * Sets the fixed headers, except those that were set before: code that changes headers must find them all. Once they
 * are sent, nothing can be set, but logs and hooks may still read them.
 */
function setFixedHeaders (response: LateResponse): void {
  const late = response[kLate]!
  if (late.fixed === null || response.headersSent) return
  const { own } = late
  for (const [name, value] of late.fixed.list) {
    if (!own.hasHeader.call(response, name)) own.setHeader.call(response, name, value)
  }
  late.fixed = null
}

/** The methods of Node or of an injected request, or those with which somebody has wrapped them on this response. */
function methodsOf (response: LateResponse): ServerResponse {
  const prototype = Object.getPrototypeOf(response) as ServerResponse
  if (!METHODS.some(name => Object.hasOwn(response, name))) return prototype
  const wrapped = METHODS.filter(name => Object.hasOwn(response, name))
  return Object.assign(Object.create(prototype), Object.fromEntries(wrapped.map(name => [name, response[name]])))
}

function isPlain (head: string | Head): head is OutgoingHttpHeaders {
  return typeof head === 'object' && head !== null && !Array.isArray(head)
}

/** The values by name in lower case; a name that is there twice has a list. */
function grouped (fields: ReadonlyArray<readonly [string, unknown]>): Map<string, unknown> {
  const values = new Map<string, unknown>()
  for (const [rawName, value] of fields) {
    const name = String(rawName).toLowerCase()
    values.set(name, values.has(name) ? [values.get(name), value].flat() : value)
  }
  return values
}

/** `writeHead` also accepts a list of names and values in turn, or of pairs. */
function pairs (head: unknown): Array<[name: string, value: unknown]> {
  if (!Array.isArray(head)) return []
  if (Array.isArray(head[0])) return head as Array<[string, unknown]>
  return head.flatMap((name, index): Array<[string, unknown]> => index % 2 === 0 ? [[name, head[index + 1]]] : [])
}
