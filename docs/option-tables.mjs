// Generates the option tables in the README of each package. The text between
// `<!-- generated: options dist/options.js OPTIONS -->` and `<!-- /generated -->` comes from the export that is named.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'
import { expectedOf } from '../packages/core/dist/options/option-words.js'

const MARKED = /(<!-- generated: options (\S+) (\w+) -->\n)[\s\S]*?(<!-- \/generated -->)/g

/** The README of a package. Each marked table shows the options as they are declared now. */
export async function withOptionTables (folder) {
  let readme = readFileSync(join(folder, 'README.md'), 'utf8')
  for (const [marked, open, module, name, close] of readme.matchAll(MARKED)) {
    const { [name]: table } = await import(pathToFileURL(join(folder, module)).href)
    if (table === undefined) throw new Error(`${folder}/README.md: ${module} does not export ${name}`)
    const rows = ['| option | value | default | meaning |', '|---|---|---|---|', ...rowsOf(table, '')]
    readme = readme.replace(marked, () => `${open}${rows.join('\n')}\n${close}`)
  }
  return readme
}

function rowsOf (table, path) {
  return Object.entries(table).flatMap(([option, spec]) => [
    `| \`${path}${option}\` | ${cell(valueOf(spec))} | ${cell(defaultOf(spec))} | ${cell(spec.about)} |`,
    ...nestedRows(spec, `${path}${option}`)
  ])
}

/** The rows of the tables inside an option. Each row shows the path that error messages use. */
function nestedRows (spec, path) {
  switch (spec.kind) {
    case 'object':
      return rowsOf(spec.options, `${path}.`)
    case 'list':
      return nestedRows(spec.items, `${path}[]`)
    case 'record':
      return nestedRows(spec.values, `${path}.<name>`)
    case 'either':
      return spec.kinds.flatMap(kind => nestedRows(kind, path))
    case 'oneOf':
      return Object.values(spec.forms).flatMap(form => nestedRows(form, path))
    default:
      return []
  }
}

/** Nested tables have rows of their own, so their members need not be listed here. */
function valueOf (spec) {
  const expected = partsOf(spec)
  return expected === null ? expectedOf(spec) : expectedOf({ kind: 'custom', expected, or: spec.or })
}

function partsOf (spec) {
  switch (spec.kind) {
    case 'object':
      return 'an object'
    case 'list':
      return `a list, each item ${valueOf(spec.items)}`
    case 'record':
      return `an object, each member ${valueOf(spec.values)}`
    default:
      return null
  }
}

function defaultOf ({ default: value, defaultText, optional }) {
  if (defaultText !== undefined) return defaultText
  if (value === undefined) return optional === true ? 'none' : 'required'
  return `\`${inspect(value, { depth: 5, breakLength: Infinity })}\``
}

function cell (text) {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('\n', ' ')
}
