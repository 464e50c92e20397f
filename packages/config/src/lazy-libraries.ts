import { createRequire } from 'node:module'
import type * as typeboxValue from 'typebox/value'
import type * as yaml from 'yaml'

// These libraries are large: 750 files. A valid policy is read without them, and that is the usual case at a start.

let loadedYaml: typeof yaml | undefined
let loadedTypebox: typeof typeboxValue | undefined

/** The YAML parser that keeps the positions of nodes. */
export function yamlLibrary (): typeof yaml {
  loadedYaml ??= createRequire(import.meta.url)('yaml') as typeof yaml
  return loadedYaml
}

export function typeboxLibrary (): typeof typeboxValue {
  loadedTypebox ??= createRequire(import.meta.url)('typebox/value') as typeof typeboxValue
  return loadedTypebox
}
