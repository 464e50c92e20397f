import { basename } from 'node:path'

import { shellQuote } from './vm.mjs'

const startMark = '#@v4l2-vm start '
const endMark = '#@v4l2-vm end '

/**
 * The shell script that runs test files one after the other in the guest.
 * @param {string[]} files absolute paths
 * @param {number} fileDeadlineSeconds a file that takes longer is killed and fails
 */
export function testScript (files, fileDeadlineSeconds) {
  const run = file => [
    `echo ${shellQuote(startMark + file)}`,
    // No source maps: parsing those of the test runner takes longer in the guest than all the rest.
    `timeout -s KILL ${fileDeadlineSeconds} ${shellQuote(process.execPath)} ${shellQuote(file)}`,
    `printf '\\n${endMark}%s\\n' "$?"`
  ].join('\n')
  return files.map(run).join('\n') + '\n'
}

/**
 * Turns the guest's output into one TAP document with a subtest for each file, as tap itself prints it.
 * A file that did not run, did not end, or ended without its own tally counts as one failure.
 * @param {string[]} files absolute paths, in the order of the script
 * @param {(line: string) => void} print
 */
export function tapDocument (files, print) {
  const tally = { total: 0, pass: 0, fail: 0, skip: 0, todo: 0 }
  let count = 0
  let current
  let rest = ''

  const begin = file => {
    current = { file, started: performance.now(), counts: undefined }
    print(`# Subtest: ${basename(file)}`)
  }
  const finish = problem => {
    const { file, started, counts } = current
    const passed = problem === undefined && counts !== undefined && !counts.fail && counts.total > 0
    for (const [key, value] of Object.entries(counts ?? {})) tally[key] += value
    const why = problem ?? whyUncounted(counts)
    if (why !== undefined && !counts?.fail) {
      tally.total += 1
      tally.fail += 1
    }
    count += 1
    if (why !== undefined) print(`# ${basename(file)}: ${why}`)
    print(`${passed ? 'ok' : 'not ok'} ${count} - ${basename(file)} # ` +
      `time=${(performance.now() - started).toFixed(0)}ms`)
    print('')
    current = undefined
  }
  const line = text => {
    if (text.startsWith(startMark)) return begin(text.slice(startMark.length))
    if (current === undefined) return text === '' ? undefined : print(`# ${text}`)
    if (text.startsWith(endMark)) {
      const status = text.slice(endMark.length)
      return finish(status === '0' ? undefined : whyFailed(status))
    }
    const counts = /^# \{ (total: \d+.*) \}$/.exec(text)
    if (counts !== null) {
      current.counts = Object.fromEntries(
        [...counts[1].matchAll(/(\w+): (\d+)/g)].map(([, key, value]) => [key, Number(value)])
      )
    } else if (text !== 'TAP version 14') print(text === '' ? '' : `    ${text}`)
  }

  print('TAP version 14')
  return {
    /** @param {string} chunk */
    write (chunk) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop()
      lines.forEach(line)
    },
    /**
     * Prints the closing lines.
     * @param {string | undefined} problem why the guest as a whole did not end well
     * @returns {boolean} whether everything passed
     */
    end (problem) {
      if (rest !== '') line(rest)
      if (current !== undefined) finish(problem ?? 'it did not end')
      for (const file of files.slice(count)) {
        begin(file)
        finish(`it did not run${problem === undefined ? '' : `: ${problem}`}`)
      }
      if (problem !== undefined) print(`# ${problem}`)
      print(`1..${count}`)
      print(
        `# { ${Object.entries(tally)
          .filter(([key, value]) => key === 'total' || key === 'pass' || value > 0)
          .map(([key, value]) => `${key}: ${value}`)
          .join(', ')} }`
      )
      return problem === undefined && tally.fail === 0 && tally.total > 0
    }
  }
}

/** Why the counts of a file do not prove anything; undefined when they do. */
function whyUncounted (counts) {
  if (counts === undefined) return 'it ended without a tally'
  return counts.total === 0 ? 'it has no assertion' : undefined
}

function whyFailed (status) {
  return status === '137' ? 'killed: it took too long' : `exit status ${status}`
}
