import { createPublicKey, type KeyObject } from 'node:crypto'
import { mkdir, open } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { GENESIS, type ChainHead } from './chain.js'
import { AuditFileInvalid } from './errors.js'
import { createSigner, parseHead, verifyHead, type SignedHead } from './heads.js'

export interface AuditHeads {
  /** An Ed25519 private key, as a KeyObject or PEM. */
  readonly key: KeyObject | string
  /** Where heads are appended, one JSON line each, mode 0600. @default `<log>.heads` beside a log file; none for other sinks */
  readonly file?: string
  /** A head is signed when the last one is so old and events have come since. @default 60 */
  readonly everySeconds?: number
  /** A head is signed after so many events. @default 1000 */
  readonly everyEvents?: number
  /** Gets every head, to keep it where nobody who can write the log can write. Never waited for; failures are logged. */
  readonly onHead?: (head: SignedHead) => void | Promise<void>
}

export interface HeadLogSettings {
  readonly key: KeyObject
  readonly file: string | null
  readonly everySeconds: number
  readonly everyEvents: number
  readonly onHead: NonNullable<AuditHeads['onHead']> | null
  readonly onError: (error: unknown) => void
}

/** Signs where the chain has got to, when it is time. */
export interface HeadLog {
  readonly everyMs: number
  /**
   * The last record that can be vouched for, because a head signed with this key covers it; `GENESIS` when there is none.
   * Throws `MARTY_AUDIT_FILE_INVALID` when the log ends before, or otherwise than, the last head says.
   */
  resume (end: ChainHead): Promise<ChainHead>
  /** Whether the end of the chain should be signed now. */
  isDue (end: ChainHead): boolean
  /** Whether there is anything that no head covers. */
  isBehind (end: ChainHead): boolean
  /** Signs what is already durable. Never rejects. */
  sign (end: ChainHead): Promise<void>
}

/** The end of a heads file in which its last line is looked for; a line has about 300 bytes. */
const TAIL_BYTES = 4096
/** Node.js runs a timer that is longer at once. */
const MAX_TIMER_MS = 2 ** 31 - 1

export function createHeadLog ({ key, file, everySeconds, everyEvents, onHead, onError }: HeadLogSettings): HeadLog {
  const path = file === null ? null : resolve(file)
  const signed = createSigner(key)
  const publicKey = createPublicKey(key)
  const everyMs = Math.min(everySeconds * 1000, MAX_TIMER_MS)
  let last: ChainHead | null = null
  let vouched: ChainHead = GENESIS
  let signedAt = -Infinity
  let known = path === null
  let torn = false

  /** The last head in the file. What a crash left of a line behind it is cut off: a head is no part of the chain. */
  async function lastInFile (heads: string): Promise<SignedHead | null> {
    await mkdir(dirname(heads), { recursive: true, mode: 0o700 })
    const handle = await open(heads, 'a+', 0o600)
    try {
      const { size } = await handle.stat()
      const tail = Buffer.alloc(Math.min(size, TAIL_BYTES))
      await handle.read(tail, 0, tail.length, size - tail.length)
      const end = tail.lastIndexOf(0x0a) + 1
      if (end === 0 && size > TAIL_BYTES) {
        throw new AuditFileInvalid(
          `"${heads}" does not end with signed heads; move the file away and keep it, verify the log, then start again`
        )
      }
      if (end < tail.length) await handle.truncate(size - (tail.length - end))
      if (end === 0) return null
      const head = parseHead(tail.toString('utf8', tail.lastIndexOf(0x0a, end - 2) + 1, end - 1))
      if (head === null) {
        throw new AuditFileInvalid(
          `The last line of "${heads}" is no signed head; move the file away and keep it, verify the log, then start again`
        )
      }
      return head
    } finally {
      await handle.close()
    }
  }

  async function append (heads: string, line: string): Promise<void> {
    const handle = await open(heads, 'a', 0o600)
    try {
      await handle.appendFile(line)
      await handle.datasync()
    } finally {
      await handle.close()
    }
  }

  return {
    everyMs,
    async resume (end) {
      if (!known) {
        const found = await lastInFile(path!)
        // What another key has signed, or nobody, may have been put there together with what it tells of.
        if (found !== null && verifyHead(found, publicKey)) vouched = { seq: found.seq, hash: found.hash }
        last = found
        known = true
      }
      if (last === null || last.seq < end.seq || (last.seq === end.seq && last.hash === end.hash)) return vouched
      throw new AuditFileInvalid(
        `The audit log ends with record ${end.seq}, but its signed heads say that record ${last.seq} ` +
          `was${last.seq === end.seq ? ' another one' : ' written'}: ` +
          'it was cut off or replaced. Keep it and its heads, verify it, and move both away; then start again'
      )
    },
    isBehind: end => end.seq > (last?.seq ?? 0),
    isDue: end =>
      end.seq > (last?.seq ?? 0) && (end.seq - (last?.seq ?? 0) >= everyEvents || Date.now() - signedAt >= everyMs),
    async sign (end) {
      const head = signed(end)
      try {
        if (path !== null) {
          if (torn) await lastInFile(path)
          torn = true
          await append(path, `${JSON.stringify(head)}\n`)
          torn = false
        }
      } catch (error) {
        onError(error)
        return
      }
      last = vouched = end
      signedAt = Date.now()
      if (onHead === null) return
      // Whoever keeps heads elsewhere may be slow or away; the log is not.
      void (async () => {
        await onHead(head)
      })().catch(onError)
    }
  }
}
