import type { AuditLine, AuditUnproven, AuditUnprovenRange, SignedHead } from '@marty/audit'
import { EXIT, UsageError, type Command, type Output } from './command.js'
import { cannotBeRead, count, readNamedFile } from './policy-file.js'
import { flag, json, text, texts } from './values.js'

const JSON_OPTION = { type: 'boolean', help: 'Write the result as JSON' } as const

export const auditVerify: Command = {
  name: 'audit verify',
  usage: 'FILE [--public-key FILE] [--heads FILE] [--accept-unproven HASH]... [--json]',
  summary: 'Finds out whether an audit log was changed, and names the first bad record',
  options: {
    'public-key': { type: 'string', help: 'Ed25519 public key, as PEM, of what signed the heads' },
    heads: {
      type: 'string',
      help: 'Signed heads that were kept elsewhere, one JSON object a line; those beside the log (FILE.heads) count as well'
    },
    'accept-unproven': {
      type: 'string',
      multiple: true,
      help: 'The hash of the last record of an unproven range that has been looked at; may be repeated'
    },
    json: JSON_OPTION
  },
  positionals: ['FILE'],
  async run ([file = ''], values, output) {
    const publicKey = text(values, 'public-key')
    const heads = text(values, 'heads')
    const options = {
      acceptUnproven: texts(values, 'accept-unproven').map(hashIn),
      ...(publicKey === undefined ? {} : { publicKey: await publicKeyIn(publicKey) }),
      ...(heads === undefined ? {} : { heads: headsIn(heads, await readNamedFile(heads)) })
    }
    const { verifyAuditLog } = await import('@marty/audit')
    const result = await verifyAuditLog(file, options).catch((error: unknown) => {
      throw cannotBeRead(file, error)
    })
    if (flag(values, 'json')) {
      output.out(json(result))
    } else if (!result.ok) {
      const place = `${result.file === 'heads' ? heads! : result.file}:${result.line}`
      output.err(
        `${place}: ${result.kind}${result.seq === null ? '' : ` at record ${result.seq}`}: ${result.message}\n`
      )
      if (result.kind === 'unproven') listRanges(result, output)
    } else {
      for (const { file, line, kind, message } of result.warnings) {
        output.err(`${file}:${line}: warning: ${kind}: ${message}\n`)
      }
      for (const { file, line, seq } of result.gaps) {
        output.err(
          `${file}:${line}: warning: gap at record ${seq ?? '?'}: the log itself says that events were lost before it\n`
        )
      }
      const { records, files, signedSeq, head, unproven } = result
      for (const range of unproven) {
        output.err(`${range.first.file}:${range.first.line}: warning: unproven: ${rangeOf(range)}, as accepted\n`)
      }
      const proof =
        signedSeq === null
          ? publicKey === undefined
            ? 'signatures not checked: give --public-key'
            : 'no record is covered by a signature'
          : signedSeq === head.seq
            ? 'signed to the end'
            : `signed up to record ${signedSeq} of ${head.seq}`
      output.out(`${file} is intact: ${count(records, 'record')} in ${count(files.length, 'file')}, ${proof}\n`)
    }
    if (result.ok) return EXIT.ok
    return result.kind === 'unproven' ? EXIT.unproven : EXIT.invalid
  }
}

export const auditTail: Command = {
  name: 'audit tail',
  usage: 'FILE [--follow] [--from SEQ|end] [--json]',
  summary: 'Shows the records of an audit log, a line each, through rotated files; it does not verify',
  options: {
    follow: { type: 'boolean', help: 'Wait for further records, and for the log if it is not there yet' },
    from: { type: 'string', help: 'The number of the first record, or "end" for new ones only (default: 1)' },
    json: { type: 'boolean', help: 'Write each record as one line of JSON' }
  },
  positionals: ['FILE'],
  async run ([file = ''], values, output) {
    const from = firstRecord(text(values, 'from') ?? '1')
    const follow = flag(values, 'follow')
    const show = flag(values, 'json') ? (record: AuditLine) => JSON.stringify(record) : lineOf
    // A log may consist of rotated files only, so report a file that cannot be opened only if no record
    // was shown.
    const { tailAuditLog } = await import('@marty/audit')
    let shown = 0
    try {
      for await (const record of tailAuditLog(file, { follow, from })) {
        output.out(`${show(record)}\n`)
        shown++
      }
    } catch (error) {
      throw cannotBeRead(file, error)
    }
    if (shown === 0) await readable(file)
    return EXIT.ok
  }
}

/** Lists all ranges with the hashes that accept them. The first one has already been explained. */
function listRanges ({ unproven, records, signedSeq }: AuditUnproven, output: Output): void {
  for (const range of unproven) {
    output.err(`${range.first.file}:${range.first.line}: unproven: ${rangeOf(range)} (${range.lastHash})\n`)
  }
  output.err(
    'Nothing else is wrong with ' +
      `${count(records, 'record')}${signedSeq === null ? '' : `, signed up to record ${signedSeq}`}\n`
  )
}

function rangeOf ({ firstSeq, lastSeq, removed }: AuditUnprovenRange): string {
  return lastSeq < firstSeq
    ? `${count(removed, 'record')} removed after record ${lastSeq}`
    : `records ${firstSeq} to ${lastSeq}`
}

function hashIn (given: string): string {
  if (!/^[0-9a-f]{64}$/.test(given)) {
    throw new UsageError(
      `--accept-unproven "${given}" is no hash of a record; expected 64 hexadecimal digits, as "audit verify" tells them`
    )
  }
  return given
}

async function readable (file: string): Promise<void> {
  const { access } = await import('node:fs/promises')
  await access(file).catch((error: unknown) => { throw cannotBeRead(file, error) })
}

function firstRecord (given: string): number | 'end' {
  if (given === 'end') return given
  if (!/^[1-9]\d{0,14}$/.test(given)) {
    throw new UsageError(`--from "${given}" is neither the number of a record, from 1, nor "end"`)
  }
  return Number(given)
}

async function publicKeyIn (file: string): Promise<string> {
  const pem = await readNamedFile(file)
  const { createPublicKey } = await import('node:crypto')
  try {
    createPublicKey(pem)
  } catch {
    throw new UsageError(`${file} holds no public key; expected PEM, as "openssl pkey -pubout" writes it`)
  }
  return pem
}

function headsIn (file: string, lines: string): SignedHead[] {
  const heads: SignedHead[] = []
  for (const [index, line] of lines.split('\n').entries()) {
    if (line.trim() === '') continue
    const head = parsed(line) as Partial<Record<keyof SignedHead, unknown>> | null
    const { hash, time, key_id: keyId, signature } = head ?? {}
    if (!Number.isSafeInteger(head?.seq) || ![hash, time, keyId, signature].every(value => typeof value === 'string')) {
      throw new UsageError(
        `${file}:${index + 1} is no signed head; expected one JSON object a line, as the log writes them`
      )
    }
    heads.push(head as SignedHead)
  }
  return heads
}

function parsed (line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return null
  }
}

/**
 * `12 2026-01-02T03:04:05.678Z denied camera.delete user:alice 192.0.2.1 camera-7 MARTY_RBAC_DENIED`;
 * unknown parts are left out.
 */
function lineOf (record: AuditLine): string {
  const {
    seq, time_dt: time, status, activity_name: action, actor, src_endpoint: from, resource, status_code: code
  } = record as AuditLine & {
    readonly actor?: { readonly user?: { readonly uid?: unknown, readonly type?: unknown } } | null
    readonly src_endpoint?: { readonly ip?: unknown } | null
    readonly resource?: { readonly uid?: unknown } | null
  }
  const user = actor?.user
  const who = user?.uid === user?.type ? user?.uid : `${String(user?.type)}:${String(user?.uid)}`
  return [seq, time, status, action, who, from?.ip, resource?.uid, code]
    .filter(part => part !== null && part !== undefined)
    .map(String)
    .join(' ')
}
