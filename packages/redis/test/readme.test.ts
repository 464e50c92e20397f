import t from 'tap'
import { execFile } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openRedis, redisScript, withinDeadline, type RedisConnection, type RedisOptions } from '@marty/redis'
import { freePort, startRedis } from '@marty/testing'
import { createAuthority } from '@marty/testing/certificates'

t.test('the quick start of the README runs and prints what it says', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const code = /```js\n([\s\S]*?)```/.exec(readme)?.[1]
  const prints = /^prints `(.*?)`/m.exec(readme)?.[1]
  if (code === undefined || prints === undefined) throw new Error('the README has no quick start')
  // Beside the compiled tests, so that packages are found as from anywhere in the repository.
  const file = fileURLToPath(new URL(`readme-quick-start-${process.pid}.mjs`, import.meta.url))
  t.teardown(() => {
    rmSync(file, { force: true })
  })
  const redis = await startRedis(await freePort())
  t.teardown(() => redis.stop())
  writeFileSync(file, code.replace('6379', String(redis.port)))
  const { stdout } = await promisify(execFile)(process.execPath, [file])
  t.equal(stdout.trim(), prints)
})

t.test('the other examples of the README are accepted, and the script among them runs', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const [, ...examples] = [...readme.matchAll(/```js\n([\s\S]*?)```/g)].map(match => match[1]!)
  t.equal(examples.length, 4)
  const server = await startRedis(await freePort())
  t.teardown(() => server.stop())
  const redis = openRedis({ port: server.port })
  t.teardown(() => redis.close())
  await redis.ready(5_000)
  const [authority, client] = [createAuthority(), createAuthority()]
  t.teardown(() => {
    authority.remove()
    client.remove()
  })
  const files: Record<string, string> = {
    'ca.pem': authority.cert,
    'client.pem': client.cert,
    'client.key': client.key
  }
  const opened: RedisConnection[] = []
  const open = (options: RedisOptions): void => {
    opened.push(openRedis(options))
  }
  for (const example of examples) {
    // eslint-disable-next-line no-new-func
    await new Function( // marty-security-audit-ignore eval -- the text is this package's own README
      'openRedis',
      'redisScript',
      'withinDeadline',
      'redis',
      'password',
      'readFileSync',
      `return (async () => { ${example} })()`
    )(open, redisScript, withinDeadline, redis, 'secret', (name: string) => files[name])
  }
  await Promise.all(opened.map(one => one.close()))
  t.strictSame(
    opened.map(one => one.health().details.mode),
    ['sentinel', 'cluster', 'single']
  )
  t.equal(await redis.client.get('{camera-1}budget'), '-1')
})
