import type { Place, Rule, SourceFile } from '../finding.js'

export const dockerRoot: Rule = {
  name: 'docker-root',
  severity: 'medium',
  summary: 'a Dockerfile whose last stage runs as root',
  find: ({ sources }, notRun) => dockerfiles(sources).flatMap(source => {
    const all = instructionsOf(source)
    const lastFrom = all.findLastIndex(({ word }) => word === 'FROM')
    if (lastFrom === -1) {
      notRun('no FROM instruction was found', source.file)
      return []
    }
    const user = userOf(all, lastFrom)
    if (user?.value.includes('$') === true) {
      notRun('the user comes from a build argument', source.file)
      return []
    }
    const name = user?.value.split(':')[0]
    if (name !== undefined && name !== 'root' && name !== '0') return []
    return [
      {
        file: source.file,
        index: (user ?? all[lastFrom]!).index,
        message:
          user === undefined
            ? 'no USER is set: the container runs as root unless its base image sets another user'
            : 'the container runs as root',
        advice: 'Add "USER node" (or another unprivileged user) to the last stage.'
      }
    ]
  })
}

export const dockerLatest: Rule = {
  name: 'docker-latest',
  severity: 'medium',
  summary: 'a Dockerfile that builds on an image without a fixed version',
  find: ({ sources }, notRun) => dockerfiles(sources).flatMap(source => {
    const places: Place[] = []
    const stages = new Set(['scratch'])
    const defaults = new Map<string, string>()
    for (const { word, value, index } of instructionsOf(source)) {
      if (word === 'ARG') {
        const [, name, given] = /^([\w]+)=["']?([^"'\s]*)/.exec(value) ?? []
        if (name !== undefined && given !== undefined) defaults.set(name, given)
      }
      if (word !== 'FROM') continue
      const [image = '', as, stage] = value.split(/\s+/).filter(part => !part.startsWith('--'))
      const resolved = image.replace(
        /\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))/g,
        (whole, braced, fallback, bare) => defaults.get(braced ?? bare) ?? fallback ?? whole
      )
      if (resolved.includes('$')) notRun('the image comes from a build argument without a default', source.file)
      else if (!stages.has(resolved.toLowerCase()) && !resolved.includes('@')) {
        const tag = /:([^:/]+)$/.exec(resolved)?.[1]
        if (tag === undefined || tag === 'latest') {
          places.push({
            file: source.file,
            index,
            message: `the image ${tag === undefined ? 'has no tag, which means :latest' : 'is :latest'}: the next ` +
              'build may use another image',
            advice: 'Name a version, better with its digest (@sha256:…).'
          })
        }
      }
      if (as?.toLowerCase() === 'as' && stage !== undefined) stages.add(stage.toLowerCase())
    }
    return places
  })
}

interface Instruction { readonly word: string, readonly value: string, readonly index: number }

function dockerfiles (sources: readonly SourceFile[]): SourceFile[] {
  return sources.filter(
    ({ file }) =>
      /(?:^|\/)(?:(?:Dockerfile|Containerfile)(?:\.[^/]*)?|[^/]*\.Dockerfile)$/i.test(file) &&
      !/\.(?:md|[cm]?[jt]s|dockerignore)$/i.test(file)
  )
}

function instructionsOf ({ uncommented }: SourceFile): Instruction[] {
  // Join lines that end in a backslash with the next line. Spaces keep the offsets.
  const joined = uncommented.replace(/\\[ \t]*\r?\n/g, ending => ' '.repeat(ending.length))
  return [...joined.matchAll(/^[ \t]*([A-Za-z]+)[ \t]+(.*?)[ \t\r]*$/gm)].map(
    ({ index, 1: word = '', 2: value = '' }) => ({ word: word.toUpperCase(), value, index })
  )
}

/** The user of the stage that begins at `from`. A stage that is built on an earlier stage inherits its user. */
function userOf (all: readonly Instruction[], from: number): Instruction | undefined {
  const next = all.findIndex(({ word }, index) => index > from && word === 'FROM')
  const own = all.slice(from, next === -1 ? undefined : next).findLast(({ word }) => word === 'USER')
  if (own !== undefined) return own
  const base = all[from]!.value.split(/\s+/).find(part => !part.startsWith('--'))?.toLowerCase()
  const earlier = all.findIndex(
    ({ word, value }, index) =>
      index < from && word === 'FROM' && /\sas\s+(\S+)$/i.exec(value)?.[1]?.toLowerCase() === base
  )
  return earlier === -1 ? undefined : userOf(all, earlier)
}
