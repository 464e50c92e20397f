#!/usr/bin/env node
import { runCommandLine } from './command-line.js'

// Whoever reads the output may have seen enough, as `head` has.
process.stdout.on('error', () => { process.exit() })

process.exitCode = await runCommandLine(process.argv.slice(2), {
  out: text => { process.stdout.write(text) },
  err: text => { process.stderr.write(text) }
})
