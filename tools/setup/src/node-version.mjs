import { readFileSync } from 'node:fs'
import { compareVersions } from './version.mjs'

/**
 * Says what is wrong with this Node, if anything. Loads on every Node that knows ES modules, so no newer syntax here.
 *
 * @param {string} current version as in `process.versions.node`
 * @returns {{ code: string, message: string, remedy: string } | undefined} undefined when it is new enough
 */
export function nodeVersionProblem (current) {
  const minimum = readVersions().node.minimum
  if (compareVersions(current, minimum) >= 0) return undefined
  return {
    code: 'MARTY_SETUP_NODE_TOO_OLD',
    message: 'Node ' + current + ' is too old: this project needs Node >= ' + minimum + '.',
    remedy: 'Install a newer one, for example the current LTS from https://nodejs.org/, and run this again.'
  }
}

/**
 * The pinned versions, from the one file that holds them.
 *
 * @returns {{ node: { minimum: string }, go: { minimum: string }, mediamtx: { version: string, minimum: string },
 * 'hls.js': { version: string } }}
 */
export function readVersions () {
  return JSON.parse(readFileSync(new URL('../versions.json', import.meta.url), 'utf8'))
}
