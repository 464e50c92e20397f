#!/usr/bin/env node
import { runCommandLine } from './command-line.js'

process.exitCode = runCommandLine(process.argv.slice(2), {
  out: text => { process.stdout.write(text) },
  err: text => { process.stderr.write(text) },
  colours: process.stdout.isTTY === true && (process.env['NO_COLOR'] ?? '') === ''
})
