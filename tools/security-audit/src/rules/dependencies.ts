import { readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import type { Place, Project, Rule, SourceFile } from '../finding.js'

const KINDS = ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies'] as const
const LOCKFILES = ['package-lock.json', 'npm-shrinkwrap.json', 'yarn.lock', 'pnpm-lock.yaml', 'bun.lock', 'bun.lockb']

export const lockfileMissing: Rule = {
  name: 'lockfile-missing',
  severity: 'medium',
  summary: 'a package.json with dependencies that no lockfile pins',
  find: (project, notRun) => manifestsOf(project, notRun).flatMap(({ source, dependencies }) => {
    if (dependencies.every(({ kind }) => kind === 'peerDependencies')) return []
    const pinned = isPinned(project, dirname(join(project.directory, source.file)))
    if (pinned === 'unknown') notRun('the lockfile in a parent folder cannot be read', source.file)
    return pinned === 'no'
      ? [
          {
            file: source.file,
            index: 0,
            message: 'no lockfile pins these dependencies: every install may fetch different code',
            advice: 'Commit the lockfile that your package manager writes.'
          }
        ]
      : []
  })
}

export const dependencySource: Rule = {
  name: 'dependency-source',
  severity: 'medium',
  summary: 'a dependency from a git repository (medium) or over plain http (high)',
  find: (project, notRun) => [
    ...manifestsOf(project, notRun).flatMap(({ source, dependencies }) =>
      dependencies.flatMap(({ name, kind, from }): Place[] => {
        const found = judge(from)
        // Leave out the address: it may contain a password.
        return found === null
          ? []
          : [
              {
                file: source.file,
                index: indexOf(source.text, kind, name),
                ...found,
                message: `${name} ${found.message}`
              }
            ]
      })
    ),
    ...lockedOverHttp(project, notRun)
  ]
}

interface Manifest {
  readonly source: SourceFile
  readonly dependencies: ReadonlyArray<{ readonly name: string, readonly kind: string, readonly from: string }>
}

function manifestsOf ({ sources, skipped }: Project, notRun: (reason: string, file?: string) => void): Manifest[] {
  const isManifest = ({ file }: { readonly file: string }): boolean => /(?:^|\/)package\.json$/.test(file)
  for (const { file, reason } of skipped.filter(isManifest)) notRun(reason, file)
  return sources.filter(isManifest).flatMap(source => {
    const manifest = parseObject(source.text)
    if (manifest === null) {
      notRun('not a JSON object', source.file)
      return []
    }
    const dependencies = KINDS.flatMap(kind =>
      Object.entries((manifest[kind] ?? {}) as Record<string, unknown>).map(([name, from]) => ({
        name,
        kind,
        from: String(from)
      }))
    )
    return dependencies.length === 0 ? [] : [{ source, dependencies }]
  })
}

function isPinned ({ top, everywhere }: Project, folder: string): 'yes' | 'no' | 'unknown' {
  for (let above = folder; ; above = dirname(above)) {
    const lock = LOCKFILES.map(name => join(above, name)).find(path => everywhere.has(path))
    if (lock !== undefined) {
      if (above === folder || !lock.endsWith('.json')) return 'yes'
      // A lockfile in a parent folder pins this package's dependencies only if the package is one of its workspaces.
      const packages = lockedPackages(lock)
      if (packages === null) return 'unknown'
      if (Object.hasOwn(packages, relative(above, folder).split(sep).join('/'))) return 'yes'
    }
    if (above === top || dirname(above) === above) return 'no'
  }
}

function lockedPackages (path: string): Record<string, unknown> | null {
  const text = readOrNull(path)
  const lock = text === null ? null : parseObject(text)
  return lock === null ? null : (lock['packages'] ?? {}) as Record<string, unknown>
}

/** Reads lockfiles itself, because they may be larger than the size up to which other files are read. */
function lockedOverHttp ({ names, directory }: Project, notRun: (reason: string, file?: string) => void): Place[] {
  return names
    .filter(file => /(?:^|\/)(?:package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml)$/.test(file))
    .flatMap((file): Place[] => {
      const text = readOrNull(join(directory, file))
      if (text === null) {
        notRun('cannot be read', file)
        return []
      }
      const first = /(?:"resolved":\s*"|^\s*resolved\s+"|tarball:\s*['"]?)http:\/\//m.exec(text)
      return first === null
        ? []
        : [
            {
              file,
              index: first.index,
              severity: 'high',
              message: 'the lockfile fetches packages over plain http',
              advice: 'Set the registry to its https address and create the lockfile again.'
            }
          ]
    })
}

function judge (from: string): Pick<Place, 'message' | 'advice' | 'severity'> | null {
  if (/^(?:git\+)?http:\/\//i.test(from)) {
    return {
      severity: 'high',
      message: 'is fetched over plain http: anyone on the network path can replace it',
      advice: 'Take it from the registry, or over https.'
    }
  }
  if (
    /^(?:git[+:]|git@|ssh:|(?:github|gitlab|bitbucket|gist):)/i.test(from) ||
    /^https:\/\/[^#]*\.git(?:#.*)?$/i.test(from) ||
    /^[\w-][\w.-]*\/[\w.-]+(?:#.*)?$/.test(from)
  ) {
    return {
      message: 'comes from a git repository: it has no checksum and its branch may change',
      advice: 'Take a published version from the registry.'
    }
  }
  return null
}

function indexOf (text: string, kind: string, name: string): number {
  const start = Math.max(0, text.indexOf(JSON.stringify(kind)))
  const found = text.indexOf(JSON.stringify(name), start)
  return found === -1 ? start : found
}

function readOrNull (path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}

function parseObject (text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null
  } catch {
    return null
  }
}
