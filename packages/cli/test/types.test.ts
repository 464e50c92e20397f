import t from 'tap'
import { EXIT, runCommandLine, type ExitCode, type Output } from '@marty/cli'

// The compiler checks this file; running it shows only that the right uses work.

t.test('the command line takes arguments and two outputs, and returns one of the exit codes', async t => {
  let written = ''
  const output: Output = { out: text => { written += text }, err: text => { written += text } }
  const code: ExitCode = await runCommandLine(['--help'], output)
  const ok: 0 = EXIT.ok
  t.equal(code, ok)
  t.not(written, '')

  // @ts-expect-error there is no such exit code
  const unknown: ExitCode = 99
  // @ts-expect-error the codes do not change
  const change = (): void => { EXIT.usage = 1 }
  // @ts-expect-error both outputs are required
  const silent: Output = { out: () => {} }
  // @ts-expect-error arguments are a list, as in process.argv
  const line = async (): Promise<ExitCode> => await runCommandLine('policy check', output)
  t.equal([unknown, change, silent, line].length, 4)
})
