import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'

t.test('the quick start runs as printed', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const file = fileURLToPath(new URL('readme-quick-start.mjs', import.meta.url))
  writeFileSync(file, readme.split('```js\n')[1]?.split('```')[0] ?? '')
  const answer = JSON.parse(execFileSync(process.execPath, [file], { encoding: 'utf8' }))
  const message = /nam is not a parameter of this method; did you mean "name"\?/
  t.match(answer, { id: 1, error: { code: -32602, message } })
})
