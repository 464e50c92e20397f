import { hash as digest } from 'node:crypto'

/** Where a chain has got to. */
export interface ChainHead {
  readonly seq: number
  readonly hash: string
}

/** Before the first record. */
export const GENESIS: ChainHead = Object.freeze({ seq: 0, hash: '0'.repeat(64) })

/** What comes at the end of every line. */
const SEAL = /,"hash":"([0-9a-f]{64})"\}$/

/**
 * Puts a record, a JSON object with members, at the end of the chain: one line that carries its number and the hash of
 * the line before, and closes with its own hash over both. The line as written is what is hashed, so there is nothing to
 * canonicalise later.
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

/** A line whose hash is right for what it says; null for any other text. Whether it belongs here, `follows` says. */
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

/** Whether a record is the next of the chain. */
export function follows ({ head, prev }: OpenedRecord, before: ChainHead): boolean {
  return head.seq === before.seq + 1 && prev === before.hash
}

/** Whether a line, which is no record, may be one that was being written when the process died: the beginning of the record of this number, if it is known, and nothing else. */
export function mayBeTorn (line: string, seq: number | null): boolean {
  const start = seq === null ? '{"seq":' : `{"seq":${seq},`
  return (
    start.startsWith(line.slice(0, start.length)) &&
    parseObject(line) === null &&
    !/,"hash":"[0-9a-f]{64}"\}/.test(line)
  )
}

/** The line as a JSON object; null when it is none, as a half-written line is. */
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
