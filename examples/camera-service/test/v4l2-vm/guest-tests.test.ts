import t from 'tap'

interface TapDocument {
  write (chunk: string): void
  end (problem?: string): boolean
}

// Not compiled: the harness runs before anything is built.
const harness = new URL('../../test/v4l2-vm/guest-tests.mjs', import.meta.url).href
const { tapDocument, testScript } = await import(harness) as {
  tapDocument (files: readonly string[], print: (line: string) => void): TapDocument
  testScript (files: readonly string[], fileDeadlineSeconds: number): string
}

const a = '/tests/a.test.js'
const b = '/tests/b.test.js'
const passing = 'TAP version 14\nok 1 - fine\n1..1\n# { total: 3, pass: 3 }\n# time=1ms\n'
const run = (file: string, output: string, status: number | string = 0) => `#@v4l2-vm start ${file}\n${output}\n#@v4l2-vm end ${status}\n`

function judge (output: string, problem?: string): { passed: boolean, lines: string[], tally: string | undefined } {
  const lines: string[] = []
  const document = tapDocument([a, b], line => { lines.push(line) })
  // In small pieces, as a serial line delivers it.
  for (let at = 0; at < output.length; at += 7) document.write(output.slice(at, at + 7))
  const passed = document.end(problem)
  return { passed, lines, tally: lines.findLast(line => line.startsWith('# { ')) }
}

t.test('nothing at all is two failures', async t => {
  t.match(judge('', 'the virtual machine left no result'), { passed: false, tally: '# { total: 2, pass: 0, fail: 2 }' })
  t.match(judge(''), { passed: false, tally: '# { total: 2, pass: 0, fail: 2 }' })
})

t.test('a failed assertion fails, and is counted once', async t => {
  const failing = 'not ok 1 - broken\n1..1\n# { total: 2, pass: 1, fail: 1 }\n'
  const { passed, lines, tally } = judge(run(a, failing, 1) + run(b, passing))
  t.notOk(passed)
  t.equal(tally, '# { total: 5, pass: 4, fail: 1 }')
  t.ok(lines.some(line => line.startsWith('not ok 1 - a.test.js')))
  t.ok(lines.some(line => line.startsWith('ok 2 - b.test.js')))
})

t.test('a file that passes its assertions but ends badly fails', async t => {
  for (const status of [1, 137, 139]) {
    const { passed, tally } = judge(run(a, passing, status) + run(b, passing))
    t.notOk(passed, `status ${status}`)
    t.equal(tally, '# { total: 7, pass: 6, fail: 1 }')
  }
})

t.test('a file without a tally, or without an assertion, fails', async t => {
  t.match(judge(run(a, 'hello') + run(b, passing)), { passed: false, tally: '# { total: 4, pass: 3, fail: 1 }' })
  t.match(judge(run(a, '# { total: 0, pass: 0 }') + run(b, passing)), { passed: false, tally: '# { total: 4, pass: 3, fail: 1 }' })
})

t.test('a guest that dies in the middle of a file fails that file and all after it', async t => {
  const { passed, tally } = judge(`#@v4l2-vm start ${a}\nok 1 - fine\n    # { total: 9, pass: 9 }\n`, 'the virtual machine was stopped after 5 s')
  t.notOk(passed)
  t.equal(tally, '# { total: 2, pass: 0, fail: 2 }')
})

t.test('a guest that ends badly after good tests fails', async t => {
  t.notOk(judge(run(a, passing) + run(b, passing), 'the virtual machine left no result').passed)
})

t.test('two good files make one good document', async t => {
  const { passed, lines, tally } = judge(run(a, passing) + run(b, passing))
  t.ok(passed)
  t.equal(tally, '# { total: 6, pass: 6 }')
  t.equal(lines[0], 'TAP version 14')
  t.equal(lines.filter(line => /^1\.\.\d+$/.test(line)).join(), '1..2')
  t.ok(lines.includes('    ok 1 - fine'), 'a file\'s own lines are indented')
})

t.test('the script quotes what it is given', async t => {
  const script = testScript(["/it's here/x.test.js"], 5)
  t.match(script, 'timeout -s KILL 5 ')
  t.match(script, "'/it'\\''s here/x.test.js'")
})
