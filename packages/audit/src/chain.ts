import { createHash } from 'node:crypto'

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
 * Puts a record at the end of the chain: one line of JSON that carries its number and the hash of the line before,
 * and closes with its own hash over both. The line as written is what is hashed, so there is nothing to canonicalise later.
 */
export function sealRecord (record: object, head: ChainHead): { readonly line: string, readonly head: ChainHead } {
  const seq = head.seq + 1
  const body = JSON.stringify({ seq, ...record, prev: head.hash })
  const hash = hashOf(head.hash, body)
  return { line: `${body.slice(0, -1)},"hash":"${hash}"}`, head: { seq, hash } }
}

export interface OpenedRecord {
  readonly head: ChainHead
  readonly prev: string
  readonly record: Readonly<Record<string, unknown>>
}

/** A line whose hash is right for what it says; null for any other text. Whether it belongs here, its `prev` and `seq` say. */
export function openRecord (line: string): OpenedRecord | null {
  const seal = SEAL.exec(line)
  if (seal === null) return null
  const body = `${line.slice(0, seal.index)}}`
  const record = parseObject(body)
  if (record === null) return null
  const { seq, prev } = record
  if (!Number.isSafeInteger(seq) || typeof prev !== 'string') return null
  const hash = seal[1]!
  return hashOf(prev, body) === hash ? { head: { seq: seq as number, hash }, prev, record } : null
}

/** The line as a JSON object; null when it is none, as a half-written line is. */
export function parseObject (line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value as Record<string, unknown> : null
  } catch {
    return null
  }
}

function hashOf (prev: string, body: string): string {
  return createHash('sha256').update(prev).update('\n').update(body).digest('hex')
}
