#!/usr/bin/env node
import { runCommandLine } from './command-line.js'

// The reader of the output, such as `head`, may close the pipe early.
process.stdout.on('error', () => { process.exit() })

process.exitCode = await runCommandLine(process.argv.slice(2), {
  out: text => { process.stdout.write(text) },
  err: text => { process.stderr.write(text) }
})
