import { createReadStream } from 'node:fs'
import { GENESIS, openRecord, parseObject, type ChainHead } from './chain.js'
import { marksGap } from './gap.js'

export interface AuditVerified {
  readonly ok: true
  readonly records: number
  /** Places where a marker says that something was lost, by the marker's line. */
  readonly gaps: readonly number[]
  /** The end of the chain: compare it with one kept elsewhere to find a truncated file. */
  readonly head: ChainHead
}

export interface AuditBroken {
  readonly ok: false
  /** The first line that is not what was written there, counted from 1. */
  readonly line: number
  /** The number the record claims, if it can be read. */
  readonly seq: number | null
  /**
   * `altered`: its content does not fit its hash. `sequence`: it does not follow the record before (deleted, inserted,
   * reordered or duplicated records). `torn`: the last line is incomplete; the next start marks it.
   */
  readonly reason: 'altered' | 'sequence' | 'torn'
  /** Good records before it. */
  readonly records: number
}

export type AuditVerification = AuditVerified | AuditBroken

/**
 * Reads an audit file and names the first bad record. Records cut off at the end leave a shorter valid chain: to find
 * that, compare `head` with one noted outside the file.
 */
export async function verifyAuditFile (path: string): Promise<AuditVerification> {
  let head = GENESIS
  let records = 0
  let line = 0
  let torn = null as { readonly line: number, readonly bytes: Buffer } | null
  const gaps: number[] = []

  for await (const { bytes, ended } of linesOf(path)) {
    line++
    const content = bytes.toString('utf8')
    const opened = ended ? openRecord(content) : null
    if (opened === null) {
      // A half-written line is no JSON. Whatever still parses was a whole record, and somebody changed it.
      const parsed = parseObject(content)
      if (parsed !== null) return broken(line, seqOf(parsed), ended ? 'altered' : 'torn')
      const piece = Buffer.concat([bytes, Buffer.from(ended ? '\n' : '')])
      torn = { line: torn?.line ?? line, bytes: torn === null ? piece : Buffer.concat([torn.bytes, piece]) }
      if (!ended) return broken(torn.line, null, 'torn')
      continue
    }
    if (torn !== null) {
      if (!marksGap(opened.record, torn.bytes)) return broken(torn.line, null, 'altered')
      torn = null
    }
    if (opened.head.seq !== head.seq + 1 || opened.prev !== head.hash) return broken(line, opened.head.seq, 'sequence')
    if (opened.record['activity_name'] === 'audit.gap') gaps.push(line)
    head = opened.head
    records++
  }
  return torn === null ? { ok: true, records, gaps, head } : broken(torn.line, null, 'altered')

  function broken (at: number, seq: number | null, reason: AuditBroken['reason']): AuditBroken {
    return { ok: false, line: at, seq, reason, records }
  }
}

function seqOf (record: Readonly<Record<string, unknown>>): number | null {
  return Number.isSafeInteger(record['seq']) ? record['seq'] as number : null
}

async function * linesOf (path: string): AsyncGenerator<{ readonly bytes: Buffer, readonly ended: boolean }> {
  let rest: Buffer[] = []
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let begin = 0
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, begin)) {
      yield { bytes: Buffer.concat([...rest, chunk.subarray(begin, end)]), ended: true }
      rest = []
      begin = end + 1
    }
    if (begin < chunk.length) rest.push(chunk.subarray(begin))
  }
  if (rest.length > 0) yield { bytes: Buffer.concat(rest), ended: false }
}
