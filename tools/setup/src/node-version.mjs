import { readFileSync } from 'node:fs'
import { compareVersions } from './version.mjs'

/**
 * Reports a Node that is too old. This file must load on every Node that supports ES modules, so it uses no newer
 * syntax.
 *
 * @param {string} current version as in `process.versions.node`
 * @returns {{ code: string, message: string, remedy: string } | undefined} undefined when this Node is new enough
 */
export function nodeVersionProblem (current) {
  const minimum = readVersions().node.minimum
  if (compareVersions(current, minimum) >= 0) return undefined
  return {
    code: 'MARTY_SETUP_NODE_TOO_OLD',
    message: 'Node ' + current + ' is too old: this project needs Node >= ' + minimum + '.',
    remedy: 'Install a newer Node, for example the current LTS from https://nodejs.org/, and run this again.'
  }
}

/**
 * Reads the pinned versions from versions.json.
 *
 * @returns {{ node: { minimum: string }, go: { minimum: string }, mediamtx: { version: string, minimum: string },
 * 'hls.js': { version: string } }}
 */
export function readVersions () {
  return JSON.parse(readFileSync(new URL('../versions.json', import.meta.url), 'utf8'))
}
