import type { AuditLine, AuditUnproven, AuditUnprovenRange, AuditVerified, SignedCheckpoint } from '@marty/audit'
import { EXIT, UsageError, type Command, type Output } from './command.js'
import { cannotBeRead, count, readNamedFile } from './policy-file.js'
import { flag, json, text, texts } from './values.js'

const JSON_OPTION = { type: 'boolean', help: 'Write the result as JSON' } as const

export const auditVerify: Command = {
  name: 'audit verify',
  usage: 'FILE [--public-key FILE] [--checkpoints FILE] [--accept-unproven HASH]... [--json]',
  summary: 'Checks whether an audit log was changed, and reports the first bad record',
  options: {
    'public-key': { type: 'string', help: 'PEM file with the Ed25519 public key that verifies the checkpoints' },
    checkpoints: {
      type: 'string',
      help: 'Signed checkpoints that were stored elsewhere, one JSON object per line; those in FILE.heads are always used'
    },
    'accept-unproven': {
      type: 'string',
      multiple: true,
      help: 'Hash of the last record of an unproven range that you have investigated; can be repeated'
    },
    json: JSON_OPTION
  },
  positionals: ['FILE'],
  async run ([file = ''], values, output) {
    const publicKey = text(values, 'public-key')
    const checkpoints = text(values, 'checkpoints')
    const options = {
      acceptUnproven: texts(values, 'accept-unproven').map(parseHash),
      ...(publicKey === undefined ? {} : { publicKey: await readPublicKey(publicKey) }),
      ...(checkpoints === undefined
        ? {}
        : { checkpoints: parseCheckpoints(checkpoints, await readNamedFile(checkpoints)) })
    }
    const { verifyAuditLog } = await import('@marty/audit')
    const result = await verifyAuditLog(file, options).catch((error: unknown) => {
      throw cannotBeRead(file, error)
    })
    if (flag(values, 'json')) {
      output.out(json(result))
    } else if (result.ok) {
      reportIntact(file, result, publicKey !== undefined, output)
    } else {
      const source = result.file === 'checkpoints' ? checkpoints! : result.file
      const record = result.seq === null ? '' : ` at record ${result.seq}`
      output.err(`${source}:${result.line}: ${result.kind}${record}: ${result.message}\n`)
      if (result.kind === 'unproven') listRanges(result, output)
    }
    if (result.ok) return EXIT.ok
    return result.kind === 'unproven' ? EXIT.unproven : EXIT.invalid
  }
}

export const auditTail: Command = {
  name: 'audit tail',
  usage: 'FILE [--follow] [--from SEQ|end] [--json]',
  summary: 'Prints the records of an audit log, one per line, including rotated files; does not verify them',
  options: {
    follow: { type: 'boolean', help: 'Wait for further records, and for the log if it does not exist yet' },
    from: { type: 'string', help: 'Number of the first record, or "end" for new records only (default: 1)' },
    json: { type: 'boolean', help: 'Write each record as one line of JSON' }
  },
  positionals: ['FILE'],
  async run ([file = ''], values, output) {
    const from = parseFirstRecord(text(values, 'from') ?? '1')
    const follow = flag(values, 'follow')
    const format = flag(values, 'json') ? (record: AuditLine) => JSON.stringify(record) : lineOf
    // A log may consist of rotated files only, so report a file that cannot be opened only if no record
    // was printed.
    const { tailAuditLog } = await import('@marty/audit')
    let printed = 0
    try {
      for await (const record of tailAuditLog(file, { follow, from })) {
        output.out(`${format(record)}\n`)
        printed++
      }
    } catch (error) {
      throw cannotBeRead(file, error)
    }
    if (printed === 0) await requireReadable(file)
    return EXIT.ok
  }
}

function reportIntact (file: string, result: AuditVerified, hasKey: boolean, output: Output): void {
  const { records, files, warnings, gaps, unproven } = result
  const warn = (place: { readonly file: string, readonly line: number }, message: string): void => {
    output.err(`${place.file}:${place.line}: warning: ${message}\n`)
  }
  for (const warning of warnings) warn(warning, `${warning.kind}: ${warning.message}`)
  for (const gap of gaps) {
    warn(gap, `gap at record ${gap.seq ?? '?'}: the log itself records that events before it were lost`)
  }
  for (const range of unproven) warn(range.first, `unproven: ${describeRange(range)}, accepted by --accept-unproven`)
  const size = `${count(records, 'record')} in ${count(files.length, 'file')}`
  output.out(`${file} is intact: ${size}, ${describeSignatures(result, hasKey)}\n`)
}

function describeSignatures ({ signedSeq, head }: AuditVerified, hasKey: boolean): string {
  if (!hasKey) return 'signatures not verified (no --public-key)'
  if (signedSeq === null) return 'no record is covered by a signature'
  return signedSeq === head.seq ? 'signed to the end' : `signed up to record ${signedSeq} of ${head.seq}`
}

/** Lists all ranges with the hashes that accept them. The first one has already been explained. */
function listRanges ({ unproven, records, signedSeq }: AuditUnproven, output: Output): void {
  for (const range of unproven) {
    output.err(`${range.first.file}:${range.first.line}: unproven: ${describeRange(range)} (hash ${range.lastHash})\n`)
  }
  const signed = signedSeq === null ? '' : `, signed up to record ${signedSeq}`
  output.err(`Nothing else is wrong with the log: ${count(records, 'record')}${signed}\n`)
}

function describeRange ({ firstSeq, lastSeq, removed }: AuditUnprovenRange): string {
  return lastSeq < firstSeq
    ? `${count(removed, 'record')} removed after record ${lastSeq}`
    : `records ${firstSeq} to ${lastSeq}`
}

function parseHash (given: string): string {
  if (!/^[0-9a-f]{64}$/.test(given)) {
    throw new UsageError(
      `--accept-unproven "${given}" is not the hash of a record. Give the 64 hexadecimal digits that "marty audit ` +
        'verify" prints for the range'
    )
  }
  return given
}

async function requireReadable (file: string): Promise<void> {
  const { access } = await import('node:fs/promises')
  await access(file).catch((error: unknown) => { throw cannotBeRead(file, error) })
}

function parseFirstRecord (given: string): number | 'end' {
  if (given === 'end') return given
  if (!/^[1-9]\d{0,14}$/.test(given)) {
    throw new UsageError(`--from "${given}" must be the number of a record, from 1, or "end"`)
  }
  return Number(given)
}

async function readPublicKey (file: string): Promise<string> {
  const pem = await readNamedFile(file)
  const { createPublicKey } = await import('node:crypto')
  try {
    createPublicKey(pem)
  } catch {
    throw new UsageError(`${file} does not contain a public key in PEM format. Create one with "openssl pkey -pubout"`)
  }
  return pem
}

function parseCheckpoints (file: string, lines: string): SignedCheckpoint[] {
  const checkpoints: SignedCheckpoint[] = []
  for (const [index, line] of lines.split('\n').entries()) {
    if (line.trim() === '') continue
    const value = parseJson(line) as Partial<Record<keyof SignedCheckpoint, unknown>> | null
    const { hash, time, key_id: keyId, signature } = value ?? {}
    const strings = [hash, time, keyId, signature]
    if (!Number.isSafeInteger(value?.seq) || !strings.every(string => typeof string === 'string')) {
      throw new UsageError(
        `${file}:${index + 1} is not a signed checkpoint. Each line must be a JSON object as the audit log wrote it`
      )
    }
    checkpoints.push(value as SignedCheckpoint)
  }
  return checkpoints
}

function parseJson (line: string): unknown {
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
  const principal = user?.uid === user?.type ? user?.uid : `${String(user?.type)}:${String(user?.uid)}`
  return [seq, time, status, action, principal, from?.ip, resource?.uid, code]
    .filter(part => part !== null && part !== undefined)
    .map(String)
    .join(' ')
}
