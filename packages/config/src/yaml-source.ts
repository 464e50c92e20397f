import { load } from 'js-yaml'
import type { Document, LineCounter, Node, Pair, YAMLMap } from 'yaml'
import { explainYaml, place } from './explain-yaml.js'
import { yamlLibrary } from './lazy-libraries.js'
import type { SourceProblem } from './problem.js'

/** Keys and list indexes from the root of a document to a node. */
export type Path = readonly (string | number)[]

/** 1-based, as editors count. */
export interface SourcePosition {
  readonly line: number
  readonly column: number
}

/** A parsed YAML file and the positions of its nodes. */
export interface YamlSource {
  readonly file: string
  /** Plain objects, arrays and scalars of the YAML 1.2 core schema; null for an empty file. */
  readonly value: unknown
  /** Position of a node or of its key. For a missing node, the position of its nearest existing ancestor. */
  positionOf (path: Path, part?: 'key' | 'value'): SourcePosition
}

export type ParsedYaml = { readonly source: YamlSource, readonly problems: readonly [] } |
  { readonly source: null, readonly problems: readonly SourceProblem[] }

/** Keys that access the prototype of a plain object. */
const RESERVED_KEYS = new Set(['__proto__', 'constructor', 'prototype'])

/**
 * Parses exactly one YAML 1.2 document. Refuses, with their positions: duplicate keys, tabs as indentation, several
 * documents, aliases (their expansion is unbounded), custom tags, and keys that access prototypes.
 *
 * js-yaml parses the values. A second parser, which keeps positions, runs only when a position is needed.
 */
export function parseYaml (text: string, file: string): ParsedYaml {
  const positions = lazy(() => readPositions(text, false))
  const problem = (offset: SourcePosition, message: string): SourceProblem => ({ source: file, ...offset, message })
  let value: unknown
  try {
    value = isBlank(text) ? null : load(text, { filename: file, maxAliases: 0 })
  } catch (error) {
    return {
      source: null,
      problems: explainYaml(text, error, () => readPositions(text, true)).map(({ at, message }) => problem(at, message))
    }
  }
  const source: YamlSource = { file, value, positionOf: (path, part = 'value') => locate(positions(), path, part) }
  if (hasReservedKey(value)) {
    return {
      source: null,
      problems: reservedKeys(value, []).map(path =>
        problem(source.positionOf(path, 'key'), `the key "${path.at(-1)}" is not allowed`)
      )
    }
  }
  return { source, problems: [] }
}

interface Positions {
  readonly document: Document
  readonly lines: LineCounter
  readonly pairs: WeakMap<YAMLMap, Map<string, Pair>>
}

/** The search for duplicate keys takes quadratic time. A document that js-yaml has accepted contains none. */
function readPositions (text: string, uniqueKeys: boolean): Positions {
  const { LineCounter, parseDocument } = yamlLibrary()
  const lines = new LineCounter()
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    logLevel: 'error',
    strict: true,
    uniqueKeys
  })
  return { document, lines, pairs: new WeakMap() }
}

function locate ({ document, lines, pairs }: Positions, path: Path, part: 'key' | 'value'): SourcePosition {
  const { isMap, isSeq } = yamlLibrary()
  let node: unknown = document.contents
  let offset = (document.contents as Node | null)?.range?.[0] ?? 0
  let ownerOffset = offset
  for (const [depth, step] of path.entries()) {
    let key: unknown = null
    if (isMap(node)) {
      const pair = pairsOf(node, pairs).get(String(step))
      if (pair === undefined) return place(lines, ownerOffset)
      key = pair.key
      node = pair.value
    } else if (isSeq(node)) {
      node = node.items[Number(step)]
    } else {
      return place(lines, ownerOffset)
    }
    ownerOffset = (key as Node | null)?.range?.[0] ?? (node as Node | null)?.range?.[0] ?? ownerOffset
    const target = part === 'key' && depth === path.length - 1 ? key ?? node : node
    offset = (target as Node | null)?.range?.[0] ?? (key as Node | null)?.range?.[0] ?? offset
  }
  return place(lines, offset)
}

function pairsOf (map: YAMLMap, cache: Positions['pairs']): Map<string, Pair> {
  const { isAlias, isScalar } = yamlLibrary()
  let pairs = cache.get(map)
  if (pairs === undefined) {
    pairs = new Map(
      map.items.map(pair => [isScalar(pair.key) && !isAlias(pair.key) ? String(pair.key.value) : '', pair])
    )
    cache.set(map, pairs)
  }
  return pairs
}

/** Almost no file has such keys, so this check is cheap: it does not record the path to each node. */
function hasReservedKey (value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (Array.isArray(value)) return value.some(hasReservedKey)
  return Object.entries(value).some(([key, member]) => RESERVED_KEYS.has(key) || hasReservedKey(member))
}

function reservedKeys (value: unknown, path: Path): Path[] {
  if (typeof value !== 'object' || value === null) return []
  if (Array.isArray(value)) return value.flatMap((item, index) => reservedKeys(item, [...path, index]))
  return Object.entries(value).flatMap(([key, member]) => [
    ...(RESERVED_KEYS.has(key) ? [[...path, key]] : []),
    ...reservedKeys(member, [...path, key])
  ])
}

/** A file in which every setting is commented out counts as empty. */
function isBlank (text: string): boolean {
  return !/(?:^|\n)[^\S\n]*[^\s#]/.test(text)
}

function lazy<T> (make: () => T): () => T {
  let made: { value: T } | null = null
  return () => (made ??= { value: make() }).value
}
