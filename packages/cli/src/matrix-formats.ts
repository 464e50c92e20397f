import type { MatrixCell, PolicyMatrix } from '@marty/rbac'

export const MATRIX_FORMATS = ['text', 'markdown', 'html'] as const
export type MatrixFormat = typeof MATRIX_FORMATS[number]

interface Table {
  readonly environment: string
  readonly resource: string
  readonly rows: ReadonlyArray<{ readonly permission: string, readonly labels: readonly string[] }>
}

const LEGEND = 'yes: allowed; (...): inherited; if N: on condition N; no: a rule denies it; -: nothing allows it'
const MAX_WIDTH = 100

/** Formats a matrix for people to read. `title` names the policy. */
export function formatMatrix (matrix: PolicyMatrix, format: MatrixFormat, title: string): string {
  const notes: string[] = []
  const tables = matrix.environments.flatMap(({ environment, resources }) =>
    resources.map(({ resource, rows }) => ({
      environment,
      resource,
      rows: rows.map(({ permission, cells }) => ({ permission, labels: cells.map(cell => label(cell, notes)) }))
    }))
  )
  return { text, markdown, html }[format](tables, matrix.roles, notes.map(note => note.replaceAll(/\s/g, ' ')), title)
}

/** The word for a cell. Conditions are numbered in the order in which they appear. */
function label ({ state, inherited, condition }: MatrixCell, notes: string[]): string {
  if (state === 'deny') return 'no'
  if (state === 'none') return '-'
  if (condition !== undefined && !notes.includes(condition)) notes.push(condition)
  const word = condition === undefined ? 'yes' : `if ${notes.indexOf(condition) + 1}`
  return inherited ? `(${word})` : word
}

function text (tables: readonly Table[], roles: readonly string[], notes: readonly string[], title: string): string {
  const widths = roles.map(
    (role, at) =>
      Math.max(role.length, ...tables.flatMap(({ rows }) => rows.map(({ labels }) => labels[at]!.length))) + 2
  )
  const parts = tables.map(({ environment, resource, rows }) => {
    const first = Math.max(resource.length, ...rows.map(({ permission }) => permission.length))
    const lines = blocks(widths, MAX_WIDTH - first).flatMap(([from, to]) => {
      const line = (head: string, cells: readonly string[]): string =>
        `${head.padEnd(first)}${cells
          .slice(from, to)
          .map((cell, at) => `  ${cell.padEnd(widths[from + at]! - 2)}`)
          .join('')}`.trimEnd()
      return [line('', roles), ...rows.map(({ permission, labels }) => line(permission, labels)), '']
    })
    return `${resource} in ${environment}\n${lines.join('\n')}`
  })
  return (
    [`${title}\n${LEGEND}\n`, ...parts, ...notes.map((note, at) => `${at + 1}: ${note}`)].join('\n').trimEnd() + '\n'
  )
}

/** Splits columns into groups that fit into `room`, each with at least one column. */
function blocks (widths: readonly number[], room: number): ReadonlyArray<readonly [number, number]> {
  const found: Array<[number, number]> = []
  let used = Infinity
  for (const [at, width] of widths.entries()) {
    used += width
    if (used > room) {
      found.push([at, at])
      used = width
    }
    found.at(-1)![1] = at + 1
  }
  return found
}

function markdown (
  tables: readonly Table[],
  roles: readonly string[],
  notes: readonly string[],
  title: string
): string {
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  const parts = tables.map(({ environment, resource, rows }) =>
    [
      `## ${resource} in ${environment}`,
      '',
      row(['permission', ...roles]),
      row(['---', ...roles.map(() => '---')]),
      ...rows.map(({ permission, labels }) => row([`\`${permission}\``, ...labels])),
      ''
    ].join('\n')
  )
  // An indented code block shows every character literally.
  const conditions =
    notes.length === 0 ? [] : ['## Conditions', '', ...notes.map((note, at) => `    ${at + 1}: ${note}`), '']
  return [`# ${title.replaceAll(/[\\`*_[\]<>&|]/g, '\\$&')}`, '', `${LEGEND}.`, '', ...parts, ...conditions].join(
    '\n'
  )
}

const STYLE = `:root { color-scheme: light dark; --text: #1b1b1f; --page: #fff; --line: #c8c8d0; --yes: #0a6b2d; --no: #a3161f }
@media (prefers-color-scheme: dark) { :root { --text: #ececf1; --page: #17171b; --line: #46464f; --yes: #6fd993; --no: #ff8f8f } }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem; color: var(--text); background: var(--page) }
section { overflow-x: auto; margin-block: 2rem }
table { border-collapse: collapse }
caption { font-weight: 600; text-align: start; padding-block: .5rem }
th, td { border: 1px solid var(--line); padding: .25rem .6rem; text-align: start }
.yes { color: var(--yes) } .no { color: var(--no) }`

function html (tables: readonly Table[], roles: readonly string[], notes: readonly string[], title: string): string {
  const cell = (word: string): string => {
    const shade = word === 'no' ? ' class="no"' : ''
    return `<td${word.includes('yes') ? ' class="yes"' : shade}>${escape(word)}</td>`
  }
  const parts = tables.map(
    ({ environment, resource, rows }) => `<section><table>
<caption>${escape(resource)} in ${escape(environment)}</caption>
<thead><tr><th scope="col">permission</th>${roles.map(role => `<th scope="col">${escape(role)}</th>`).join('')}</tr></thead>
<tbody>
${rows.map(({ permission, labels }) => `<tr><th scope="row">${escape(permission)}</th>${labels.map(cell).join('')}</tr>`).join('\n')}
</tbody>
</table></section>
`
  )
  const conditions =
    notes.length === 0
      ? ''
      : `<h2>Conditions</h2>\n<ol>\n${notes.map(note => `<li><code>${escape(note)}</code></li>`).join('\n')}\n</ol>\n`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title>
<style>
${STYLE}
</style>
</head>
<body>
<h1>${escape(title)}</h1>
<p>${LEGEND}.</p>
${parts.join('')}${conditions}</body>
</html>
`
}

function escape (text: string): string {
  return text.replaceAll(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`)
}
