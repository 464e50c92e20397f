import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'

t.test('the quick start runs as printed', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const file = fileURLToPath(new URL('readme-quick-start.mjs', import.meta.url))
  writeFileSync(file, readme.split('```js\n')[1]?.split('```')[0] ?? '')
  const output = execFileSync(process.execPath, [file], { encoding: 'utf8' })
  t.match(output, /^9000\n/)
  t.match(output, /^server\.port = 9000 +\(environment APP_SERVER_PORT\)$/m)
  t.match(output, /^api_key = "\*+" /m)
  t.notMatch(output, 'swordfish')
})
