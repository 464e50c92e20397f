import type { AuditLine } from '@marty/audit'
import { EXIT, UsageError, type Command } from './command.js'
import { count, readNamedFile } from './policy-file.js'
import { flag, json, text } from './values.js'

export const auditVerify: Command = {
  name: 'audit verify',
  usage: 'FILE [--public-key FILE] [--heads FILE] [--json]',
  summary: 'Tells whether an audit log is whole, and if not, the first bad record',
  options: {
    'public-key': { type: 'string', help: 'Public key of the signed heads, PEM; without it a log written anew from its start looks whole' },
    heads: { type: 'string', help: 'The signed heads (default: FILE.heads)' },
    json: { type: 'boolean', help: 'Write the result as JSON' }
  },
  positionals: ['FILE'],
  async run ([file = ''], values, output) {
    const keyFile = text(values, 'public-key')
    const headsFile = text(values, 'heads')
    const { verifyAuditLog } = await import('@marty/audit')
    const result = await verifyAuditLog(file, {
      ...(keyFile === undefined ? {} : { publicKey: await readNamedFile(keyFile) }),
      ...(headsFile === undefined ? {} : { headsFile })
    }).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') throw new UsageError(`${file} cannot be read: there is no such file`)
      throw error
    })
    if (flag(values, 'json')) output.out(json(result))
    else if (result.ok) {
      for (const warning of result.warnings) output.err(`${placeOf(warning)}: ${warning.kind}: ${warning.message}\n`)
      for (const gap of result.gaps) output.err(`${placeOf(gap)}: a marker says that events were lost here\n`)
      output.out(`${file} is whole: ${count(result.records, 'record')} in ${count(result.files.length, 'file')}, ` +
        (result.signedSeq === null ? 'no signed head was checked\n' : `signed up to record ${result.signedSeq}\n`))
    } else output.err(`${placeOf(result)}: ${result.kind}: ${result.message}\n`)
    return result.ok ? EXIT.ok : EXIT.invalid
  }
}

export const auditTail: Command = {
  name: 'audit tail',
  usage: 'FILE [--follow] [--from SEQ] [--json]',
  summary: 'Shows the records of an audit log, through its rotated files; does not verify them',
  options: {
    follow: { type: 'boolean', help: 'Wait for further records, until interrupted' },
    from: { type: 'string', help: 'Number of the first record, or "end" for those written from now on (default: 1)' },
    json: { type: 'boolean', help: 'One record as JSON on each line' }
  },
  positionals: ['FILE'],
  async run ([file = ''], values, output) {
    const given = text(values, 'from') ?? '1'
    if (given !== 'end' && !/^[1-9]\d{0,14}$/.test(given)) throw new UsageError(`--from "${given}" is neither the number of a record nor "end"`)
    await readable(file)
    const { tailAuditLog } = await import('@marty/audit')
    for await (const record of tailAuditLog(file, { follow: flag(values, 'follow'), from: given === 'end' ? 'end' : Number(given) })) {
      output.out(flag(values, 'json') ? `${JSON.stringify(record)}\n` : lineOf(record))
    }
    return EXIT.ok
  }
}

async function readable (file: string): Promise<void> {
  const { stat } = await import('node:fs/promises')
  const found = await stat(file).catch(() => null)
  if (found === null || !found.isFile()) throw new UsageError(`${file} cannot be read: ${found === null ? 'there is no such file' : 'it is no file'}`)
}

function placeOf ({ file, line, seq }: { readonly file: string, readonly line: number, readonly seq: number | null }): string {
  return `${file}${line === 0 ? '' : `:${line}`}${seq === null ? '' : ` (record ${seq})`}`
}

/** Time, outcome, who, what, on what, from where. Texts were made fit to be shown when they were written. */
function lineOf (record: AuditLine): string {
  const of = (...path: string[]): string => {
    let value: unknown = record
    for (const name of path) value = (value as Record<string, unknown> | null | undefined)?.[name]
    return value === undefined || value === null || value === '' ? '-' : String(value)
  }
  return [String(record.seq), of('time_dt'), of('status'), of('activity_name'), of('actor', 'user', 'uid'), of('resource', 'uid'), of('src_endpoint', 'ip'), of('status_code')].join('  ') + '\n'
}
