import { createHash, createPublicKey, type Hash, type KeyObject } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { follows, GENESIS, mayBeTorn, type ChainHead } from './chain.js'
import { AuditOptionInvalid } from './errors.js'
import { findFault, type FaultKind } from './fault.js'
import { createHeadChecker, headsIn, headsOf, type HeadFault } from './head-check.js'
import { keyIdOf, type SignedHead } from './heads.js'
import { entriesOf, type Entry } from './entries.js'
import { logFiles } from './log-files.js'
import { isGap, marksGap, provesStart } from './own-records.js'

export interface VerifyOptions {
  /** The Ed25519 public keys, as KeyObjects or PEM, of the keys that signed the heads. Without one, heads are compared but their signatures are not checked. */
  readonly publicKey?: KeyObject | string | ReadonlyArray<KeyObject | string>
  /** @default `<log>.heads` */
  readonly headsFile?: string
  /** Heads that were kept elsewhere. */
  readonly heads?: readonly SignedHead[]
}

/** A line of a log. */
export interface AuditPlace {
  readonly file: string
  /** From 1; 0 for the file itself. */
  readonly line: number
  /** The number of the record, where it can be told. */
  readonly seq: number | null
}

export type AuditFaultKind = FaultKind | HeadFault['kind'] | 'torn'

export interface AuditFault extends AuditPlace {
  /**
   * `edited`, `deleted`, `inserted`, `reordered`, `duplicated`: what was done to the log. `truncated`: a signed head tells of
   * records after its end. `head-mismatch`: a head tells of another record at this place. `head-forged`: a head that the
   * key did not sign. `head-missing`: there is a key, and no head. `torn` (a warning): the last line was being written when the process died.
   */
  readonly kind: AuditFaultKind
  /** What it means and what to do. */
  readonly message: string
}

export interface AuditVerified {
  readonly ok: true
  readonly records: number
  /** In the order they were read. */
  readonly files: readonly string[]
  /** Places where a marker says that something was lost. */
  readonly gaps: readonly AuditPlace[]
  /** The end of the chain. */
  readonly head: ChainHead
  /** The last record that a head with a valid signature covers; null when there is none. Later ones are not proven to be genuine. */
  readonly signedSeq: number | null
  readonly warnings: readonly AuditFault[]
}

/** The first bad record. */
export interface AuditBroken extends AuditFault {
  readonly ok: false
  /** Good records before it. */
  readonly records: number
}

export type AuditVerification = AuditVerified | AuditBroken

/** Lines that are no record, until the next one that is. */
interface Unreadable {
  readonly first: Entry
  readonly hash: Hash
  bytes: number
  lines: number
  /** Whether all of them may be what a crash left. */
  torn: boolean
}

/**
 * Reads all files of a log in the order of its chain, in constant memory, and names the first bad record. What the chain
 * cannot show (a log cut off at its end, set back or written anew by somebody without the key) the signed heads do.
 *
 * @throws the error of the file system, `ENOENT` when there is no log
 * @example
 * const result = await verifyAuditLog('data/audit.log', { publicKey: readFileSync('audit-heads.pem', 'utf8') })
 * if (!result.ok) console.error(`${result.file}:${result.line}: ${result.kind}: ${result.message}`)
 */
export async function verifyAuditLog (file: string, options: VerifyOptions = {}): Promise<AuditVerification> {
  const headsFile = options.headsFile ?? `${file}.heads`
  for (let attempt = 1; ; attempt++) {
    const before = await stateOf(file, headsFile)
    const result = await verifyFiles(file, before.files, headsFile, options).catch((error: unknown) => error as Error)
    // A log may be written, rotated and pruned while it is read; what was done to it is still there when it is read again.
    const again = attempt < MAX_ATTEMPTS && (result instanceof Error || !result.ok) && (await stateOf(file, headsFile)).mark !== before.mark
    if (again) continue
    if (result instanceof Error) throw result
    return result
  }
}

const MAX_ATTEMPTS = 5

async function stateOf (file: string, headsFile: string): Promise<{ readonly files: readonly string[], readonly mark: string }> {
  const files = (await logFiles(file)).map(({ path }) => path)
  const sizes = await Promise.all([...files, headsFile].map(async path => (await stat(path).catch(() => null))?.size))
  return { files, mark: [...files, ...sizes].join('\n') }
}

async function verifyFiles (file: string, files: readonly string[], headsFile: string, options: VerifyOptions): Promise<AuditVerification> {
  if (files.length === 0) throw Object.assign(new Error(`There is no audit log "${file}"`), { code: 'ENOENT' })
  const keys = keysOf(options.publicKey)
  const checkers = [createHeadChecker(headsIn(headsFile), keys), createHeadChecker(headsOf(options.heads ?? []), keys)]

  let head = GENESIS
  let records = 0
  let unreadable: Unreadable | null = null
  let unproven: Entry | null = null
  let fault: AuditFault | null = null
  let lastEntry: Entry | null = null
  const gaps: AuditPlace[] = []
  const warnings: AuditFault[] = []

  for (const checker of checkers) fault ??= await checker.start()

  for await (const entry of entriesOf(files)) {
    const { opened } = entry
    if (fault !== null) {
      if (unproven === null) break
      if (opened !== null && provesStart(opened.record, startOf(unproven))) unproven = null
      continue
    }
    lastEntry = entry
    if (opened === null) {
      unreadable ??= { first: entry, hash: createHash('sha256'), bytes: 0, lines: 0, torn: true }
      unreadable.hash.update(entry.bytes).update(entry.ended ? '\n' : '')
      unreadable.bytes += entry.bytes.length + (entry.ended ? 1 : 0)
      unreadable.lines++
      unreadable.torn &&= mayBeTorn(entry.bytes.toString('utf8'), records === 0 ? null : head.seq + 1)
      continue
    }
    const isMarked: boolean = unreadable === null || (unreadable.torn && marksGap(opened.record, unreadable.bytes, unreadable.hash))
    if (records === 0 && opened.head.seq > 1 && isMarked) {
      unproven = entry
      head = startOf(entry)
    }
    if (unreadable !== null && !(isMarked && follows(opened, head))) {
      fault = await findFault(files, unreadable.first, head)
      continue
    }
    unreadable = null
    if (!follows(opened, head)) {
      fault = await findFault(files, entry, head)
      continue
    }
    head = opened.head
    records++
    if (isGap(opened.record)) gaps.push(placeOf(entry))
    if (unproven !== null && provesStart(opened.record, startOf(unproven))) unproven = null
    for (const checker of checkers) if (checker.nextSeq <= head.seq) fault ??= await checker.check(head, entry)
  }

  if (unproven !== null) {
    fault = await findFault(files, unproven, GENESIS)
    records = 0
  }
  if (fault === null && unreadable !== null) {
    if (unreadable.torn && unreadable.lines === 1 && !unreadable.first.ended) {
      warnings.push({ kind: 'torn', ...placeOf(unreadable.first), message: 'The last line is half written, as when the process dies or the disk is full; the next start marks it and goes on. Nothing has to be done' })
    } else {
      fault = await findFault(files, unreadable.first, head)
    }
  }
  if (fault === null && records > 0 && keys.size > 0 && checkers.every(({ count }) => count() === 0)) {
    fault = { kind: 'head-missing', file: headsFile, line: 0, seq: null, message: 'There is a public key but no signed head to verify the log with: heads were deleted or never signed. Get them from where onHead has put them' }
  }
  for (const checker of checkers) fault ??= checker.end(head, lastEntry ?? { file, line: 0 })
  if (fault !== null) return { ok: false, ...fault, records }
  const signed = Math.max(...checkers.map(checker => checker.signedSeq()))
  return { ok: true, records, files, gaps, head, signedSeq: signed === 0 ? null : signed, warnings }
}

/** The chain before a record. */
function startOf ({ opened }: Entry): ChainHead {
  return { seq: opened!.head.seq - 1, hash: opened!.prev }
}

function placeOf ({ file, line, opened }: Entry): AuditPlace {
  return { file, line, seq: opened?.head.seq ?? null }
}

function keysOf (publicKey: VerifyOptions['publicKey'] = []): ReadonlyMap<string, KeyObject> {
  const keys = [publicKey].flat() as ReadonlyArray<KeyObject | string>
  return new Map(keys.map(key => {
    const object = typeof key === 'string' || key.type === 'private' ? createPublicKey(key as KeyObject) : key
    if (object.asymmetricKeyType !== 'ed25519') throw new AuditOptionInvalid('audit option "publicKey" must be an Ed25519 public key')
    return [keyIdOf(object), object]
  }))
}
