import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Static, TSchema } from 'typebox'
import { checkSchema, nameOf } from './check-schema.js'
import { deepFreeze, type DeepReadonly } from './deep-freeze.js'
import { withDefaults } from './defaults.js'
import { processEnvironment } from './environment.js'
import { ConfigError } from './errors.js'
import { interpolate } from './interpolate.js'
import { readOverrides, type Override } from './overrides.js'
import { sortProblems, type SourceProblem } from './problem.js'
import { parseYaml, type Path, type YamlSource } from './yaml-source.js'

/** Where a value comes from: `default`, `file:line:column` or `environment NAME`. */
export type Origin = string

export interface LoadConfigOptions<Schema extends TSchema> {
  /**
   * TypeBox object. Its `default` and `description` options give the settings' defaults and documentation; `secret:
   * true` masks a value.
   */
  readonly schema: Schema
  /** Path of the YAML file; null to use only defaults and the environment. @default null */
  readonly file?: string | null
  /** @default the process environment */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Variables named `PREFIX_SECTION_KEY` override settings; without a prefix, no variable does. */
  readonly envPrefix?: string
  /**
   * Variables that begin with the prefix but are not overrides, such as the one that holds the file's path.
   * @default []
   */
  readonly reservedEnv?: readonly string[]
  /** Base directory of relative `${file:…}` paths. @default the file's directory, otherwise the working directory */
  readonly baseDir?: string
}

export interface LoadedConfig<Schema extends TSchema> {
  readonly value: DeepReadonly<Static<Schema>>
  /** The origin of every setting, by its dotted name (`server.port`). */
  readonly origins: ReadonlyMap<string, Origin>
  readonly file: string | null
  readonly schema: Schema
}

/**
 * Loads the configuration: the YAML file overrides the schema's defaults, and environment variables override both. The
 * result is validated and frozen. Throws {@link ConfigError}, which lists all mistakes together.
 */
export function loadConfig<Schema extends TSchema> (options: LoadConfigOptions<Schema>): LoadedConfig<Schema> {
  const { schema, file = null, env = processEnvironment(), envPrefix, reservedEnv = [] } = options
  const baseDir = options.baseDir ?? (file === null ? process.cwd() : dirname(resolve(file)))
  const problems: SourceProblem[] = []
  const source = file === null ? null : readSource(file, problems)
  const { overrides, problems: unknownNames } =
    envPrefix === undefined ? { overrides: [], problems: [] } : readOverrides(schema, envPrefix, env, reservedEnv)
  problems.push(...unknownNames)

  const locate = locator(source, overrides)
  const overridden = new Set(overrides.map(({ path }) => keyOf(path)))
  const unresolved = new Set<string>()
  const concealed = new Set<string>()
  const written = interpolate(source?.value ?? {}, schema, [], {
    env,
    baseDir,
    skip: path => overridden.has(keyOf(path)),
    report: (path, message) => {
      unresolved.add(keyOf(path))
      problems.push({ ...locate(path, 'value'), message: `${nameOf(path)}: ${message}` })
    },
    replaced: path => { concealed.add(keyOf(path)) }
  })
  const value = withDefaults(applyOverrides(written, overrides), schema)
  checkSchema(value, schema, (path, part, message) => {
    // A reference that could not be resolved leaves its setting empty: report only the cause.
    if (!unresolved.has(keyOf(path))) problems.push({ ...locate(path, part), message })
  }, { conceal: path => concealed.has(keyOf(path)) })

  if (problems.length > 0) throw new ConfigError(sortProblems(problems))
  return Object.freeze({
    value: deepFreeze(value as Static<Schema>),
    origins: originsOf(value, source, overrides),
    file,
    schema
  })
}

const READ_FAILURES: ReadonlyMap<string | undefined, string> = new Map([
  ['ENOENT', 'there is no such file'],
  ['EISDIR', 'it is a folder']
])

function readSource (file: string, problems: SourceProblem[]): YamlSource {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const reason = READ_FAILURES.get(code) ?? code ?? 'unknown reason'
    throw new ConfigError([{ source: file, line: 0, column: 0, message: `cannot be read: ${reason}` }, ...problems])
  }
  const parsed = parseYaml(text, file)
  if (parsed.source === null) throw new ConfigError([...parsed.problems, ...problems])
  return parsed.source
}

type Place = Omit<SourceProblem, 'message'>

function locator (
  source: YamlSource | null,
  overrides: readonly Override[]
): (path: Path, part: 'key' | 'value') => Place {
  return (path, part) => {
    const override = overrides.find(candidate => candidate.path.every((step, index) => path[index] === step))
    if (override !== undefined) return { source: `environment ${override.name}`, line: 0, column: 0 }
    return source === null
      ? { source: 'configuration', line: 0, column: 0 }
      : { source: source.file, ...source.positionOf(path, part) }
  }
}

function applyOverrides (value: unknown, overrides: readonly Override[]): unknown {
  for (const { path, value: replacement } of overrides) value = replaceAt(value, path, replacement)
  return value
}

/** A section that is not a mapping is returned unchanged: the schema check refuses it. */
function replaceAt (value: unknown, path: readonly string[], replacement: unknown): unknown {
  const [key, ...rest] = path
  if (key === undefined) return replacement
  if (value !== undefined && value !== null && (typeof value !== 'object' || Array.isArray(value))) return value
  const section = (value ?? {}) as Readonly<Record<string, unknown>>
  return { ...section, [key]: replaceAt(section[key], rest, replacement) }
}

/** One origin per scalar; a list counts as one setting. */
function originsOf (
  value: unknown,
  source: YamlSource | null,
  overrides: readonly Override[]
): ReadonlyMap<string, Origin> {
  const byPath = new Map(overrides.map(({ path, name }) => [keyOf(path), `environment ${name}`]))
  const origins = new Map<string, Origin>()
  const walk = (member: unknown, written: unknown, path: Path): void => {
    const override = byPath.get(keyOf(path))
    if (override === undefined && typeof member === 'object' && member !== null && !Array.isArray(member)) {
      const section =
        typeof written === 'object' && written !== null ? (written as Readonly<Record<string, unknown>>) : {}
      for (const [key, inner] of Object.entries(member)) walk(inner, section[key], [...path, key])
      return
    }
    const { line, column } = source?.positionOf(path) ?? { line: 0, column: 0 }
    origins.set(
      path.join('.'),
      override ?? (written === undefined || source === null ? 'default' : `${source.file}:${line}:${column}`)
    )
  }
  walk(value, source?.value, [])
  return origins
}

function keyOf (path: Path): string {
  return JSON.stringify(path)
}
