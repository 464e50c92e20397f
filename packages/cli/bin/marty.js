#!/usr/bin/env node
// npm links a command only when its file is there at installation; what is compiled is not, in a clean clone.
import { existsSync } from 'node:fs'

const command = new URL('../dist/marty.js', import.meta.url)
if (existsSync(command)) {
  await import(command.href)
} else {
  process.stderr.write('marty is not compiled yet; run this at the root of the project: npm run build\n')
  process.exitCode = 1
}
