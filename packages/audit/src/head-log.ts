import { createPublicKey, type KeyObject } from 'node:crypto'
import { mkdir, open } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { GENESIS, type ChainHead } from './chain.js'
import { AuditFileInvalid } from './errors.js'
import { createSigner, parseHead, verifyHead, type SignedHead } from './heads.js'

export interface AuditHeads {
  /** An Ed25519 private key, as a KeyObject or PEM. */
  readonly key: KeyObject | string
  /**
   * The file to which heads are appended, one JSON line each, mode 0600.
   * @default `<log>.heads` beside a log file; none for other sinks
   */
  readonly file?: string
  /** Signs a head when the last one is this old and there were events since. @default 60 */
  readonly everySeconds?: number
  /** Signs a head after this many events. @default 1000 */
  readonly everyEvents?: number
  /**
   * Receives every head, to store it where no one who can write the log can write. The
   * log does not wait for it; failures are logged.
   */
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

/** Signs the end of the chain at intervals. */
export interface HeadLog {
  readonly everyMs: number
  /**
   * Returns the last record that a head signed with this key covers; `GENESIS` when there is none. Throws
   * `MARTY_AUDIT_FILE_INVALID` when the log ends before the record of the last head, or with a different record.
   */
  resume (end: ChainHead): Promise<ChainHead>
  /** Whether the end of the chain should be signed now. */
  isDue (end: ChainHead): boolean
  /** Whether there are records that no head covers. */
  isBehind (end: ChainHead): boolean
  /** Signs the end of the chain, which must be durable already. Never rejects. */
  sign (end: ChainHead): Promise<void>
}

/** How much of the end of a heads file is searched for its last line; a line has about 300 bytes. */
const TAIL_BYTES = 4096
/** The longest timer of Node.js: it runs a longer one immediately. */
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

  /** The last head in the file. Truncates a half-written line after it: heads are not part of the chain. */
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
        // A head that this key did not sign may have been forged together with the records that it covers.
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
      // Do not wait: the receiver may be slow or unavailable, and the log must go on.
      void (async () => {
        await onHead(head)
      })().catch(onError)
    }
  }
}
