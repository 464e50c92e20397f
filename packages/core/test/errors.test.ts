import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { defineError, MartyError } from '@marty/core'

// The error classes of the whole repository, as compiled.

type ErrorClass = typeof MartyError & { readonly definition?: { readonly name: string, readonly code: string } }
interface Export { readonly file: string, readonly name: string, readonly value: ErrorClass }

const root = findRoot(import.meta.dirname)
const exported = (await Promise.all(modules().map(errorClassesOf))).flat().filter(({ value }) => value !== MartyError)

t.test('every exported error class is made by defineError and named like its export', async t => {
  t.ok(exported.length > 60)
  for (const { file, name, value } of exported) {
    const where = `${name} of ${file}`
    t.ok(value.prototype instanceof MartyError, `${where} is made by defineError`)
    t.equal(value.definition?.name, name, `${where} says its name`)
    t.equal(value.name, name, `${where} is named like its export`)
    t.equal(value.prototype.name, name, `errors of ${where} have its name`)
  }
})

t.test('no two error classes of all packages share a name or a code', async t => {
  for (const key of ['name', 'code'] as const) {
    const owners = new Map<unknown, ErrorClass>()
    for (const { file, name, value } of exported) {
      const used = value.definition?.[key]
      t.ok((owners.get(used) ?? value) === value, `${key} ${used} of ${name} in ${file} is used once`)
      owners.set(used, value)
    }
  }
})

t.test('every error that is defined is also created', async t => {
  const code = compiledModules().map(file => readFileSync(file, 'utf8')).join('\n')
  const created = new Set([...code.matchAll(/\bnew (\w+)\b/g)].map(([, name]) => name))
  for (const { file, name } of exported) t.ok(created.has(name), `${name} of ${file}`)
})

t.test('an error carries the name of its class, also in its stack, and so does a subclass', async t => {
  const Broken = defineError({ name: 'Broken', code: 'TEST_BROKEN', statusCode: 500, message: 'it is broken' })
  const Base = defineError({ name: 'Detailed', code: 'TEST_DETAILED', statusCode: 403, message: 'no' })
  class Detailed extends Base {
    readonly field = 'x'
  }

  t.match(new Broken(), { name: 'Broken', code: 'TEST_BROKEN', stack: /^Broken: it is broken\n +at / })
  t.equal(String(new Detailed()), 'Detailed: no')
  t.strictSame([Broken.name, Detailed.name, Detailed.definition.name], ['Broken', 'Detailed', 'Detailed'])
  t.notOk(Object.keys(new Broken()).includes('name'))
})

/** What the packages and the examples consist of, as compiled. */
function compiledModules (): string[] {
  return ['packages', 'examples']
    .flatMap(group => readdirSync(join(root, group)).map(name => join(root, group, name, 'dist')))
    .filter(folder => existsSync(folder))
    .flatMap(folder => readdirSync(folder, { recursive: true, encoding: 'utf8' }).map(file => join(folder, file)))
    .filter(file => file.endsWith('.js'))
}

/** The errors of each package and of each module of the examples, and what each package exports under its name. */
function modules (): string[] {
  const packages = readdirSync(join(root, 'packages'))
    .flatMap(name => ['errors.js', 'index.js'].map(file => join(root, 'packages', name, 'dist', file)))
  const examples = readdirSync(join(root, 'examples')).flatMap(name => errorModulesIn(join(root, 'examples', name, 'dist')))
  return [...packages, ...examples].filter(file => existsSync(file))
}

function errorModulesIn (folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(file => /(^|[\\/])errors\.js$/.test(file))
    .map(file => join(folder, file))
}

async function errorClassesOf (path: string): Promise<Export[]> {
  const file = relative(root, path)
  const members = Object.entries(await import(pathToFileURL(path).href) as Record<string, unknown>)
  return members
    .filter(([, value]) => isErrorClass(value))
    .map(([name, value]) => ({ file, name, value: value as ErrorClass }))
}

function isErrorClass (value: unknown): boolean {
  return typeof value === 'function' && value.prototype instanceof Error
}

function findRoot (from: string): string {
  return existsSync(join(from, 'package-lock.json')) ? from : findRoot(dirname(from))
}
