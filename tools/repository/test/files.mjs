import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { load } from 'js-yaml'

export const root = fileURLToPath(new URL('../../..', import.meta.url))

/** @param {string} file a path from the root of the repository */
export const read = file => readFileSync(`${root}/${file}`, 'utf8')

/**
 * @param {string} folder a path from the root of the repository
 * @returns {Array<{ file: string, text: string, content: any }>} every YAML file in it
 */
export function yamlFiles (folder) {
  return readdirSync(`${root}/${folder}`).filter(name => /\.ya?ml$/.test(name)).map(name => {
    const file = `${folder}/${name}`
    const text = read(file)
    return { file, text, content: load(text) }
  })
}
