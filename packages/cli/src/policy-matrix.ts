import { closest } from '@marty/core'
import type { Policy, PolicyMatrix, PolicyMatrixRow } from '@marty/rbac'
import { EXIT, UsageError, type Command } from './command.js'
import { readPolicyFile, refuse, writeNamedFile } from './policy-file.js'

const FORMATS: Readonly<Record<string, (matrices: readonly PolicyMatrix[], file: string) => string>> = { text: toText, markdown: toMarkdown, html: toHtml }

export const policyMatrixCommand: Command = {
  name: 'policy matrix',
  usage: 'FILE [--environment ENVIRONMENT] [--format text|markdown|html] [--out OUT] [--json]',
  summary: 'Draws what every role may do, as a table of permissions by roles',
  options: {
    environment: { type: 'string', help: 'Only this one, by name or alias; all of them when left out' },
    format: { type: 'string', help: 'text (the default), markdown or html' },
    out: { type: 'string', help: 'The file to write to, in place of standard output' },
    json: { type: 'boolean', help: 'Write the tables as JSON' }
  },
  positionals: ['FILE'],
  async run ([file = ''], values, output) {
    const { environment, format = 'text', out, json = false } = values as { environment?: string, format?: string, out?: string, json?: boolean }
    if (!Object.hasOwn(FORMATS, format)) throw new UsageError(`--format must be ${Object.keys(FORMATS).join(', ')}, not "${format}"`)
    const { policy, problems } = await readPolicyFile(file)
    if (policy === null) return refuse(file, problems, json, output)
    const { policyMatrix } = await import('@marty/rbac')
    const matrices = environmentsOf(policy, environment).map(name => policyMatrix(policy, name))
    const text = json ? `${JSON.stringify({ file, matrices }, null, 2)}\n` : FORMATS[format]!(matrices, file)
    if (out === undefined) output.out(text)
    else await writeNamedFile(out, text)
    return EXIT.ok
  }
}

function environmentsOf ({ environments, environmentNames, file }: Policy, name: string | undefined): readonly string[] {
  if (name === undefined) return environments
  if (environmentNames.has(name)) return [name]
  const near = closest(name, environmentNames.keys())
  throw new UsageError(`${file} defines no environment "${name}"${near === null ? '' : `; did you mean "${near}"?`}`)
}

const MARKS = { allow: 'yes', deny: '', if: 'if' } as const
const LEGEND = 'yes: allowed; if: under a condition; nothing: denied. Each role held alone.'

/** One table for each resource, with the roles that may do something there: it has to fit a terminal. */
function toText (matrices: readonly PolicyMatrix[]): string {
  const tables = matrices.flatMap(({ environment, roles, rows }) => [...byResource(rows)].map(([resource, rows]) => {
    const shown = roles.map((name, at) => ({ name, at })).filter(({ at }) => rows.some(({ cells }) => cells[at]!.state !== 'deny'))
    const width = Math.max(...rows.map(({ permission }) => permission.length), resource.length)
    const line = (first: string, cells: readonly string[]): string => `${first.padEnd(width)}  ${cells.map((cell, i) => cell.padEnd(shown[i]!.name.length)).join('  ')}`.trimEnd()
    return [
      `${resource} in ${environment}${shown.length === 0 ? ': nobody' : ''}`,
      line('', shown.map(({ name }) => name)),
      ...rows.map(({ permission, cells }) => line(permission, shown.map(({ at }) => MARKS[cells[at]!.state]))),
      ...notesOf(rows, roles).map(([note, text]) => `  ${note}: if ${text}`)
    ].filter(text => text !== '').join('\n')
  }))
  return `${tables.join('\n\n')}\n\n${LEGEND}\n`
}

function toMarkdown (matrices: readonly PolicyMatrix[], file: string): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')
  return `# Who may do what, by ${cell(file)}\n\n${LEGEND}\n` + matrices.map(({ environment, roles, rows }) => `
## ${environment}

| Permission | ${roles.join(' | ')} |
|---|${roles.map(() => ':-:').join('|')}|
${rows.map(({ permission, cells }) => `| \`${permission}\` | ${cells.map(({ state }) => MARKS[state]).join(' | ')} |`).join('\n')}
${notesOf(rows, roles).map(([note, text]) => `\n- ${note}: if \`${cell(text)}\``).join('')}
`).join('')
}

/** One file, without scripts, readable by day and by night. */
function toHtml (matrices: readonly PolicyMatrix[], file: string): string {
  const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Who may do what</title>
<style>
  :root { color-scheme: light dark }
  body { font: 1rem/1.4 system-ui, sans-serif; margin: 2rem }
  table { border-collapse: collapse; margin: 2rem 0 }
  caption { text-align: start; font-weight: bold; padding: .5rem 0 }
  th, td { border: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: .25rem .5rem; text-align: center }
  th[scope=row] { text-align: start; font-family: ui-monospace, monospace; font-weight: normal }
  thead th { position: sticky; top: 0; background: Canvas }
  .allow { background: color-mix(in srgb, green 25%, Canvas) }
  .if { background: color-mix(in srgb, orange 25%, Canvas) }
</style>
<h1>Who may do what</h1>
<p>By ${escape(file)}. ${LEGEND}</p>
${matrices.map(({ environment, roles, rows }) => `<table>
<caption>${escape(environment)}</caption>
<thead><tr><th scope="col">Permission</th>${roles.map(role => `<th scope="col">${escape(role)}</th>`).join('')}</tr></thead>
<tbody>
${rows.map(({ permission, cells }) => `<tr><th scope="row">${escape(permission)}</th>${cells.map(({ state, condition }) =>
  `<td class="${state}"${condition === undefined ? '' : ` title="if ${escape(condition)}"`}>${MARKS[state]}</td>`).join('')}</tr>`).join('\n')}
</tbody>
</table>
${notesOf(rows, roles).map(([note, text]) => `<p>${escape(note)}: if <code>${escape(text)}</code></p>\n`).join('')}`).join('')}</html>
`
}

function byResource (rows: readonly PolicyMatrixRow[]): ReadonlyMap<string, readonly PolicyMatrixRow[]> {
  const found = new Map<string, PolicyMatrixRow[]>()
  for (const row of rows) found.set(row.resource, [...found.get(row.resource) ?? [], row])
  return found
}

/** Every condition once, with where it counts. */
function notesOf (rows: readonly PolicyMatrixRow[], roles: readonly string[]): ReadonlyArray<readonly [where: string, condition: string]> {
  const found = new Map<string, Map<string, string[]>>()
  for (const { permission, cells } of rows) {
    for (const [at, { condition }] of cells.entries()) {
      if (condition === undefined) continue
      const where = found.get(condition) ?? new Map<string, string[]>()
      found.set(condition, where.set(permission, [...where.get(permission) ?? [], roles[at]!]))
    }
  }
  return [...found].map(([condition, where]) => [[...where].map(([permission, roles]) => `${permission} of ${roles.join(', ')}`).join('; '), condition] as const)
}
