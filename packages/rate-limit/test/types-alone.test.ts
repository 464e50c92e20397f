import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript'

/** What the compiler says of a file that imports nothing but Fastify and this package. */
function problemsOf (text: string): string[] {
  const file = join(import.meta.dirname, '../test/alone.ts')
  const options: ts.CompilerOptions = {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2023,
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: ['node']
  }
  const host = ts.createCompilerHost(options)
  const { getSourceFile, fileExists } = host
  host.fileExists = name => name === file || fileExists(name)
  host.getSourceFile = (name, ...rest) =>
    name === file ? ts.createSourceFile(name, text, ts.ScriptTarget.ES2023) : getSourceFile(name, ...rest)
  const program = ts.createProgram([file], options, host)
  return ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
}

const REGISTER = `
import Fastify from 'fastify'
import { rateLimit } from '@marty/rate-limit'
const app = Fastify()
await app.register(rateLimit, { rules: { reads: { limit: 5, windowMs: 1000, by: 'address' } } })
`

t.test('types promise nothing that @fastify/rate-limit alone would decorate', async t => {
  t.same(problemsOf(`${REGISTER}await app.limiter.check({ address: '192.0.2.1' }, ['reads'])`), [])
  t.match(problemsOf(`${REGISTER}app.rateLimit()`), [/Property 'rateLimit' does not exist/])
})
