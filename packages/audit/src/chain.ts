import { hash as digest } from 'node:crypto'

/** The end of a chain: the number and the hash of its last record. */
export interface ChainHead {
  readonly seq: number
  readonly hash: string
}

/** The head of an empty chain. */
export const GENESIS: ChainHead = Object.freeze({ seq: 0, hash: '0'.repeat(64) })

/** The end of every line: its own hash. */
const SEAL = /,"hash":"([0-9a-f]{64})"\}$/

/**
 * Appends a record, a non-empty JSON object, to the chain. Returns one line with its number and the hash of the
 * previous line, which ends with its own hash over both. The hash covers the line exactly as written, so verification
 * needs no canonicalisation.
 */
export function sealRecord (json: string, head: ChainHead): { readonly line: string, readonly head: ChainHead } {
  const seq = head.seq + 1
  const open = `{"seq":${seq},${json.slice(1, -1)},"prev":"${head.hash}"`
  const hash = hashOf(head.hash, `${open}}`)
  return { line: `${open},"hash":"${hash}"}`, head: { seq, hash } }
}

export interface OpenedRecord {
  readonly head: ChainHead
  readonly prev: string
  readonly record: Readonly<Record<string, unknown>>
}

/**
 * Parses a line and checks its hash; null for any other string. `follows` checks whether the record is the next one.
 */
export function openRecord (line: string): OpenedRecord | null {
  const seal = SEAL.exec(line.slice(-76))
  if (seal === null) return null
  const body = `${line.slice(0, -75)}}`
  const record = parseObject(body)
  if (record === null) return null
  const { seq, prev } = record
  if (!Number.isSafeInteger(seq) || typeof prev !== 'string') return null
  const hash = seal[1]!
  return hashOf(prev, body) === hash ? { head: { seq: seq as number, hash }, prev, record } : null
}

/** Whether a record is the next one in the chain. */
export function follows ({ head, prev }: OpenedRecord, before: ChainHead): boolean {
  return head.seq === before.seq + 1 && prev === before.hash
}

/**
 * Whether a line that is not a record may have been half written when the process died: it must be the beginning of the
 * record with this number, if the number is known, and nothing else.
 */
export function mayBeTorn (line: string, seq: number | null): boolean {
  const start = seq === null ? '{"seq":' : `{"seq":${seq},`
  return (
    start.startsWith(line.slice(0, start.length)) &&
    parseObject(line) === null &&
    !/,"hash":"[0-9a-f]{64}"\}/.test(line)
  )
}

/** The line as a JSON object; null when it is not one, for example because it is half written. */
export function parseObject (line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null
  } catch {
    return null
  }
}

function hashOf (prev: string, body: string): string {
  return digest('sha256', `${prev}\n${body}`)
}
