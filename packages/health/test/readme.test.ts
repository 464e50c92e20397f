import t from 'tap'
import type { FastifyInstance } from 'fastify'
import { readFile, writeFile } from 'node:fs/promises'

t.test('the quick start of the README runs', async t => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const [, snippet = ''] = /```js\n([\s\S]*?)```/.exec(readme) ?? []
  t.match(snippet, /await app\.listen\(\{ port: 8080 \}\)\n$/)
  const file = new URL('./readme-quick-start.mjs', import.meta.url)
  await writeFile(file, snippet.replace('await app.listen({ port: 8080 })', 'export { app }'))
  const { app } = await import(file.href) as { app: FastifyInstance }
  t.teardown(() => app.close())
  t.match((await app.inject('/health/system')).json(), {
    status: /healthy|degraded/,
    timestamp: String,
    components: { disk: { details: /^\d+ % free$/ } }
  })
  t.equal((await app.inject('/health/live')).statusCode, 200)
})
