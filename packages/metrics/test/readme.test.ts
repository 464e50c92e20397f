import { readFile, writeFile } from 'node:fs/promises'
import type { FastifyInstance } from 'fastify'
import t from 'tap'

t.test('the quick start of the README runs and answers as shown', async t => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const [, snippet = ''] = /```js\n([\s\S]*?)```/.exec(readme) ?? []
  const [, shown = ''] = /```text\n([\s\S]*?)```/.exec(readme) ?? []
  t.match(snippet, /await app\.listen\(\{ port: 8080 \}\)\n$/)
  const file = new URL('./readme-quick-start.mjs', import.meta.url)
  await writeFile(file, snippet.replace('await app.listen({ port: 8080 })', 'export { app }'))
  const { app } = await import(file.href) as { app: FastifyInstance }
  t.teardown(() => app.close())
  await app.inject('/hello')
  const text = (await app.inject('/metrics')).body
  t.ok(text.includes(shown))
  const named = readme.matchAll(/^\| `((?:http|auth|security|rpc)_\w+)`/gm)
  for (const [, name] of named) t.match(text, `# HELP ${name} `)
})
