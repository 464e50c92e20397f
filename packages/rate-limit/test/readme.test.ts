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
  const answers = []
  for (let i = 0; i < 11; i++) answers.push(await app.inject('/hello'))
  t.same(answers.slice(0, 10).map(answer => answer.statusCode), new Array(10).fill(200))
  t.equal(answers[10]?.statusCode, 429)
  t.match(answers[10]?.headers, { 'ratelimit-policy': '"client";q=60;w=60, "burst";q=10;w=1', ratelimit: '"burst";r=0;t=1', 'retry-after': '1' })
})
