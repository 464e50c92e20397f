import t from 'tap'
import { execFile } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { freePort, startRedis } from './redis-server.js'

t.test('the quick start of the README runs and prints what it says', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const code = /```js\n([\s\S]*?)```/.exec(readme)?.[1]
  const prints = /^prints `(.*?)`/m.exec(readme)?.[1]
  if (code === undefined || prints === undefined) throw new Error('the README has no quick start')
  // Beside the compiled tests, so that packages are found as from anywhere in the repository.
  const file = fileURLToPath(new URL(`readme-quick-start-${process.pid}.mjs`, import.meta.url))
  t.teardown(() => { rmSync(file, { force: true }) })
  const redis = await startRedis(await freePort())
  t.teardown(() => redis.stop())
  writeFileSync(file, code.replace('6379', String(redis.port)))
  const { stdout } = await promisify(execFile)(process.execPath, [file])
  t.equal(stdout.trim(), prints)
})
