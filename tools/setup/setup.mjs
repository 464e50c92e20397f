#!/usr/bin/env node
// This file and what it imports statically must load on any Node that knows ES modules:
// an old one has to be told so in words, not by a syntax error.
import process from 'node:process'
import { nodeVersionProblem } from './src/node-version.mjs'

const problem = nodeVersionProblem(process.versions.node)
if (problem === undefined) {
  import('./src/command-line.mjs').then((module) => module.runCommandLine(process.argv.slice(2)))
} else {
  if (process.argv.includes('--json')) {
    console.log(JSON.stringify({ ok: false, error: problem }, undefined, 2))
  }
  console.error(problem.code + ': ' + problem.message)
  console.error('  ' + problem.remedy)
  process.exitCode = 1
}
