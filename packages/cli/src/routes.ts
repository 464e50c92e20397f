import { access } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type {} from '@marty/audit'
import type { OperationReport } from '@marty/core'
import type {} from '@marty/rate-limit'
import type {} from '@marty/rbac'
import { EXIT, UsageError, type Command } from './command.js'
import { cannotBeRead, writeNamedFile } from './policy-file.js'
import { flag, json, table, text } from './values.js'

/** What this command needs of an application: an instance of Fastify in which `@marty/security` is registered. */
interface Application {
  register (plugin: unknown): PromiseLike<unknown>
  ready (): PromiseLike<unknown>
  close (): PromiseLike<unknown>
  readonly security?: { report (): readonly OperationSecurity[] }
}

type OperationSecurity = OperationReport & { readonly who: string }

export const routesCommand: Command = {
  name: 'routes',
  usage: 'MODULE [--export NAME] [--markdown] [--json] [--out FILE]',
  summary: 'Shows every route and RPC method of an application, and who may call it',
  options: {
    export: { type: 'string', help: 'The export that is or makes the application (default: default, then app)' },
    markdown: { type: 'boolean', help: 'Write a Markdown table' },
    json: { type: 'boolean', help: 'Write the result as JSON' },
    out: { type: 'string', help: 'The file to write (default: standard output, where the application may log)' }
  },
  positionals: ['MODULE'],
  async run ([file = ''], values, output) {
    if (flag(values, 'json') && flag(values, 'markdown')) {
      throw new UsageError('--json and --markdown cannot be given together')
    }
    const app = await applicationOf(file, text(values, 'export'))
    try {
      await app.ready()
      if (app.security === undefined) throw new UsageError(`${file} does not register @marty/security`)
      const report = app.security.report().map(operation => withRelativePlace(operation, process.cwd()))
      const write = flag(values, 'markdown') ? routesAsMarkdown : routesAsText
      const written = flag(values, 'json') ? json(report) : write(report)
      const out = text(values, 'out')
      if (out === undefined) output.out(written)
      else await writeNamedFile(out, written)
    } finally {
      await app.close()
    }
    return EXIT.ok
  }
}

/**
 * The application of a module: an instance, a function that returns one, or a plugin `(fastify, options)`, for which an
 * instance is made with the Fastify that the module would load.
 */
async function applicationOf (file: string, name: string | undefined): Promise<Application> {
  const path = resolve(file)
  await access(path).catch((error: unknown) => { throw cannotBeRead(file, error) })
  const exported = await import(pathToFileURL(path).href) as Record<string, unknown>
  const found = name === undefined ? exported['default'] ?? exported['app'] : exported[name]
  if (typeof found === 'function' && found.length >= 2) {
    const { fastify } = createRequire(path)('fastify') as { fastify (): Application }
    const app = fastify()
    await app.register(found)
    return app
  }
  const app: unknown = typeof found === 'function' ? await found() : found
  if (typeof (app as Partial<Application> | undefined)?.ready === 'function') return app as Application
  throw new UsageError(
    `${file} exports no application${name === undefined ? ' as default or "app"' : ` as "${name}"`}: export an ` +
      'instance of Fastify, a function that returns one, or a plugin (fastify, options)'
  )
}

function withRelativePlace (operation: OperationSecurity, folder: string): OperationSecurity {
  return { ...operation, place: operation.place?.replace(`${folder}/`, '') ?? null }
}

const HEADINGS = ['OPERATION', 'WHO', 'ROLES', 'LIMITS', 'AUDIT', 'DECLARED IN']

function routesAsText (report: readonly OperationSecurity[]): string {
  return table(HEADINGS, report.map(cellsOf))
}

/** A Markdown table, for documentation. It leaves out the lines of the source, which change too often. */
export function routesAsMarkdown (report: readonly OperationSecurity[]): string {
  const escape = (cell: string): string => cell.replaceAll('|', '\\|').replaceAll('*', '\\*')
  const line = (cells: readonly string[]): string => `| ${cells.slice(0, -1).map(escape).join(' | ')} |\n`
  const headings = ['Operation', 'Who', 'Roles', 'Limits', 'Audit', '']
  return line(headings) + line(['---', '---', '---', '---', '---', '']) + report.map(cellsOf).map(line).join('')
}

function cellsOf ({ name, who, grantedTo, limits = [], audit = 'none', place }: OperationSecurity): string[] {
  const roles = grantedTo === undefined
    ? []
    : [...grantedTo.always, ...grantedTo.conditionally.map(role => `${role} (if)`)]
  return [name, who, roles.join(', ') || '-', limits.join(', ') || '-', audit, place ?? '-']
}
