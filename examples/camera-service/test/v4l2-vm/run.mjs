#!/usr/bin/env node
// npm run test:v4l2 -- [--deadline SECONDS] [PART OF A FILE NAME ...]
// Runs the compiled tests of test/v4l2/ in a virtual machine with the kernel's own test cameras, and prints one TAP
// document.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { tapDocument, testScript } from './guest-tests.mjs'
import { searchPath } from './requirements.mjs'
import { prepareVm, runInVm } from './vm.mjs'

const testFolder = fileURLToPath(new URL('../../dist-test/v4l2', import.meta.url))
/** Host variables that the tests in the guest see too. */
const passedOn = ['CI', 'HOME', 'MEDIAMTX_BIN']

try {
  process.exitCode = await main() ? 0 : 1
} catch (error) {
  console.error(`v4l2-vm: ${error.message}`)
  process.exitCode = 1
}

async function main () {
  const started = performance.now()
  const say = line => console.error(`v4l2-vm: ${line} (${((performance.now() - started) / 1000).toFixed(1)} s)`)
  const { deadlineSeconds, wanted } = readArguments()
  const files = listTests(wanted)
  const vm = await prepareVm({ say })
  say(`booting ${vm.release}`)

  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => stop.abort())
  const document = tapDocument(files, line => console.log(line))
  const { exitStatus, ended, consoleLog, durationMs } = await runInVm(vm, {
    // Less than the whole, so that the guest itself can say which file hung.
    script: testScript(files, Math.ceil(deadlineSeconds * 0.8)),
    deadlineMs: deadlineSeconds * 1000,
    onOutput: chunk => document.write(chunk),
    environment: guestEnvironment(deadlineSeconds),
    keep: [dirname(process.execPath), ...(process.env.MEDIAMTX_BIN ? [dirname(process.env.MEDIAMTX_BIN)] : [])],
    signal: stop.signal
  }).catch(error => {
    document.end(error.message)
    throw error
  })

  const problem = problemOf(ended, exitStatus, deadlineSeconds)
  const passed = document.end(problem)
  console.log(`# time=${durationMs.toFixed(0)}ms`)
  if (problem !== undefined) {
    const output = readFileSync(consoleLog, 'utf8').slice(-8000)
    console.error(`v4l2-vm: ${problem}; the output of its console:\n${output}`)
  }
  return passed
}

function readArguments () {
  const { values, positionals } = parseArgs({ options: { deadline: { type: 'string', default: '600' } }, allowPositionals: true })
  const deadlineSeconds = Number(values.deadline)
  if (!Number.isSafeInteger(deadlineSeconds) || deadlineSeconds < 1) {
    throw new Error(`--deadline must be a whole number of seconds, not "${values.deadline}"`)
  }
  return { deadlineSeconds, wanted: positionals }
}

function listTests (wanted) {
  const names = existsSync(testFolder) ? readdirSync(testFolder).filter(name => name.endsWith('.test.js')).sort() : []
  if (names.length === 0) throw new Error(`no compiled tests in ${testFolder}; run "npm run build" first`)
  const chosen = names.filter(name => wanted.length === 0 || wanted.some(part => name.includes(part)))
  if (chosen.length === 0) throw new Error(`no test matches ${wanted.join(', ')}; there are: ${names.join(', ')}`)
  return chosen.map(name => join(testFolder, name))
}

function guestEnvironment (deadlineSeconds) {
  const environment = {
    PATH: [dirname(process.execPath), searchPath].join(delimiter),
    TAP_TIMEOUT: String(deadlineSeconds)
  }
  for (const name of passedOn) if (process.env[name]) environment[name] = process.env[name]
  return environment
}

function problemOf (ended, exitStatus, deadlineSeconds) {
  if (ended === 'deadline') return `the virtual machine was stopped after ${deadlineSeconds} s`
  if (ended === 'aborted') return 'interrupted'
  return exitStatus === undefined ? 'the virtual machine left no result' : undefined
}
