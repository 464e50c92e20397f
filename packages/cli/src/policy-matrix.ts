import { closest } from '@marty/core'
import { EXIT, UsageError, type Command } from './command.js'
import { formatMatrix, MATRIX_FORMATS, type MatrixFormat } from './matrix-formats.js'
import { readPolicyFile, refuse, writeNamedFile } from './policy-file.js'

export const policyMatrixCommand: Command = {
  name: 'policy matrix',
  usage: 'FILE [--environment ENVIRONMENT] [--format text|markdown|html] [--out FILE] [--json]',
  summary: 'Writes a table of the permissions of every role',
  options: {
    environment: { type: 'string', help: 'Name or alias of the only environment to include (default: every one)' },
    format: { type: 'string', help: 'text, markdown or html (default: text)' },
    out: { type: 'string', help: 'The file to write (default: standard output)' },
    json: { type: 'boolean', help: 'Write the table as JSON' }
  },
  positionals: ['FILE'],
  async run ([file = ''], values, output) {
    const {
      environment,
      format = 'text',
      out,
      json = false
    } = values as { environment?: string, format?: MatrixFormat, out?: string, json?: boolean }
    if (!MATRIX_FORMATS.includes(format)) {
      throw new UsageError(`--format is "${String(format)}"; it is one of ${MATRIX_FORMATS.join(', ')}`)
    }
    if (json && values.format !== undefined) throw new UsageError('--json and --format cannot be given together')
    const { policy, problems } = await readPolicyFile(file)
    if (policy === null) return refuse(file, problems, json, output)
    if (environment !== undefined && !policy.environmentNames.has(environment)) {
      const names = [...policy.environmentNames.keys()]
      const near = closest(environment, names)
      throw new UsageError(
        `${file} defines no environment "${environment}"; ` +
          `${near === null ? `it defines ${names.join(', ')}` : `did you mean "${near}"?`}`
      )
    }
    const { policyMatrix } = await import('@marty/rbac')
    const matrix = policyMatrix(policy, environment === undefined ? {} : { environment })
    const text = json
      ? `${JSON.stringify({ file, ...matrix }, null, 2)}\n`
      : formatMatrix(matrix, format, `Who may do what: ${file}`)
    if (out === undefined) {
      output.out(text)
    } else {
      await writeNamedFile(out, text)
      output.out(`${out} is written from ${file}\n`)
    }
    return EXIT.ok
  }
}
