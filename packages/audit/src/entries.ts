import { openRecord, type OpenedRecord } from './chain.js'
import { linesOf, type Line } from './sinks/log-files.js'

/** One line of a log, with its place and its record. */
export interface Entry extends Line {
  readonly file: string
  /** The line number, from 1. */
  readonly line: number
  /** Null when the line is not a record, or is a record that was changed. */
  readonly opened: OpenedRecord | null
}

export async function * entriesOf (files: readonly string[]): AsyncGenerator<Entry> {
  for (const file of files) {
    let line = 0
    for await (const { bytes, ended } of linesOf(file)) {
      line++
      yield { file, line, bytes, ended, opened: openRecord(bytes.toString('utf8')) }
    }
  }
}

/** A line of a log. */
export interface AuditPlace {
  readonly file: string
  /** The line number, from 1; 0 for the file itself. */
  readonly line: number
  /** The number of the record; null when it is unknown. */
  readonly seq: number | null
}

export function placeOf ({ file, line, opened }: Entry): AuditPlace {
  return { file, line, seq: opened?.head.seq ?? null }
}
