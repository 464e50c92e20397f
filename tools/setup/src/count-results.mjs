import { readFileSync } from 'node:fs'
import process from 'node:process'
import { pathToFileURL } from 'node:url'

// Matches only at the start of a line: an indented line closes a subtest, and the parent test counts the subtest.
const CLOSING_LINE = /^# \{ (total: \d+(?:, \w+: \d+)*) \}$/gm

/**
 * Adds up the closing lines that tap prints (`# { total: 9, pass: 8, fail: 1 }`) over all suites of one run.
 *
 * A suite counts as one failure if it printed no closing line, or if its exit code reports an error but it counted no
 * failure. Otherwise the last line would look like success.
 *
 * @param {readonly { name: string, output: string, exitCode: number }[]} suites
 * @returns {{ passed: number, failed: number, ok: boolean, problems: string[] }}
 */
export function countResults (suites) {
  const sum = { passed: 0, failed: 0, ok: suites.length > 0, problems: /** @type {string[]} */ ([]) }
  for (const suite of suites) {
    const lines = [...suite.output.replaceAll('\r', '').matchAll(CLOSING_LINE)].map(match =>
      readCounts(String(match[1]))
    )
    const passed = lines.reduce((count, line) => count + (line.pass ?? 0), 0)
    const failed = lines.reduce((count, line) => count + (line.fail ?? 0), 0)
    if (lines.length === 0) {
      sum.problems.push(`${suite.name} printed no result line (exit code ${suite.exitCode})`)
    } else if (suite.exitCode !== 0 && failed === 0) {
      sum.problems.push(`${suite.name} ended with exit code ${suite.exitCode}`)
    }
    const broken = lines.length === 0 || (suite.exitCode !== 0 && failed === 0)
    sum.passed += passed
    sum.failed += failed + (broken ? 1 : 0)
    sum.ok &&= !broken && failed === 0 && suite.exitCode === 0
  }
  return sum
}

/**
 * @param {string} fields `total: 9, pass: 8, fail: 1`
 * @returns {Record<string, number>}
 */
function readCounts (fields) {
  return Object.fromEntries(fields.split(', ').map((field) => {
    const [name, count] = field.split(': ')
    return [name, Number(count)]
  }))
}

/**
 * `count-results.mjs NAME EXIT_CODE LOG [NAME EXIT_CODE LOG ...]`: prints the sum as the last line. The exit code is 0
 * if every suite succeeded, otherwise 1.
 *
 * @param {readonly string[]} args
 */
function main (args) {
  const suites = []
  for (let i = 0; i + 2 < args.length; i += 3) {
    suites.push({
      name: String(args[i]),
      exitCode: Number(args[i + 1]),
      output: readFileSync(String(args[i + 2]), 'utf8')
    })
  }
  const { passed, failed, ok, problems } = countResults(suites)
  for (const problem of problems) console.log(problem)
  console.log(`${passed} passed, ${failed} failed`)
  process.exitCode = ok ? 0 : 1
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  main(process.argv.slice(2))
}
