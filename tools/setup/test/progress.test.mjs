import { EventEmitter, once } from 'node:events'
import t from 'tap'
import { createProgress } from '../src/progress.mjs'

t.test('outside a terminal: plain lines, no control characters', async (t) => {
  const stream = recorder(false)
  const progress = createProgress(stream, {})
  const line = progress.begin('mediamtx')
  line.say('first')
  line.say('second, immediately after it: not printed')
  const seconds = line.end('failed', 'gone')
  progress.print('one\ntwo')
  t.match(stream.text, /^ {2}… mediamtx {11}first 0 s\n {2}✗ mediamtx {11}gone \(0\.0 s\)\n {6}one\n {6}two\n$/)
  t.notMatch(stream.text, '\u001B')
  t.ok(seconds >= 0)
})

t.test('on a terminal: colours, unless NO_COLOR is set', async (t) => {
  const coloured = recorder(true)
  createProgress(coloured, {}).begin('npm').end('ok', 'done')
  t.match(coloured.text, '\u001B[32m✓\u001B[0m')

  const plain = recorder(true)
  createProgress(plain, { NO_COLOR: '1' }).begin('npm').end('ok', 'done')
  t.notMatch(plain.text, '\u001B[32m')

  const empty = recorder(true)
  createProgress(empty, { NO_COLOR: '' }).begin('npm').end('warning', 'done')
  t.match(empty.text, '\u001B[33m!', 'an empty NO_COLOR has no effect')
})

t.test('on a terminal, each activity replaces the line', async (t) => {
  const stream = recorder(true)
  const line = createProgress(stream, {}).begin('npm')
  for (const words of ['first', 'second']) {
    line.say(words)
    // An activity that is replaced immediately may never be shown, so wait until this one is shown.
    await stream.shown(words)
  }
  line.end('ok', 'done')
  const lines = stream.text.split('\r\u001B[K').map((line) => /npm +(\w+) /.exec(line)?.[1])
  t.same([...new Set(lines)], [undefined, 'first', 'second', 'done'])
  t.equal(stream.text.split('\n').length, 2, 'one line remains')
})

/** @param {boolean} isTTY */
function recorder (isTTY) {
  return {
    isTTY,
    text: '',
    written: new EventEmitter(),
    /** @param {string} part */
    write (part) {
      this.text += part
      this.written.emit('part')
    },
    /** @param {string} words */
    async shown (words) {
      while (!this.text.includes(words)) await once(this.written, 'part')
    }
  }
}
