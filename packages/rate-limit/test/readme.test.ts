import t from 'tap'
import type { FastifyInstance } from 'fastify'
import { readFile, writeFile } from 'node:fs/promises'
import { freePort, startRedis } from '@marty/testing'

t.test('the quick start of the README runs', async t => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const [, snippet = ''] = /```js\n([\s\S]*?)```/.exec(readme) ?? []
  t.match(snippet, /await app\.listen\(\{ port: 8080 \}\)\n$/)
  const file = new URL('./readme-quick-start.mjs', import.meta.url)
  await writeFile(file, snippet.replace('await app.listen({ port: 8080 })', 'export { app }'))
  const { app } = (await import(file.href)) as { app: FastifyInstance }
  t.teardown(() => app.close())
  const answers = []
  for (let i = 0; i < 11; i++) answers.push(await app.inject('/hello'))
  t.same(
    answers.slice(0, 10).map(answer => answer.statusCode),
    new Array(10).fill(200)
  )
  t.equal(answers[10]?.statusCode, 429)
  t.match(answers[10]?.headers, {
    'ratelimit-policy': '"client";q=60;w=60, "burst";q=10;w=1',
    ratelimit: '"burst";r=0;t=1',
    'retry-after': '1'
  })
})

t.test('the one line for those who come from @fastify/rate-limit', async t => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const section = readme.slice(readme.indexOf('## Coming from @fastify/rate-limit'))
  const [, snippet = ''] = /```js\n([\s\S]*?)```/.exec(section) ?? []
  t.match(snippet, /await app\.listen\(\{ port: 8080 \}\)\n$/)
  const server = await startRedis(await freePort())
  t.teardown(() => server.stop())
  const file = new URL('./readme-coming-from.mjs', import.meta.url)
  await writeFile(
    file,
    snippet
      .replace('await app.listen({ port: 8080 })', 'export { app, redis }')
      .replace('port: 6379', `port: ${server.port}`)
  )
  const { app, redis } = (await import(file.href)) as { app: FastifyInstance; redis: { disconnect: () => void } }
  t.teardown(async () => {
    await app.close()
    redis.disconnect()
  })
  const answers = []
  for (let i = 0; i < 6; i++) answers.push(await app.inject({ method: 'POST', url: '/login' }))
  t.same(
    answers.map(answer => answer.statusCode),
    [200, 200, 200, 200, 200, 429]
  )
  t.equal((await app.inject('/')).headers['x-ratelimit-remaining'], '99')
})
