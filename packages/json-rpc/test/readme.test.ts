import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'

t.test('the quick start runs as printed', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const file = fileURLToPath(new URL('readme-quick-start.mjs', import.meta.url))
  writeFileSync(file, readme.split('```js\n')[1]?.split('```')[0] ?? '')
  const answer = JSON.parse(execFileSync(process.execPath, [file], { encoding: 'utf8' }))
  t.match(answer, { id: 1, error: { code: -32602, message: /nam is not a parameter of this method; did you mean "name"\?/ } })
})

t.test('every option is in the table', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const options = readFileSync(new URL('../src/options.ts', import.meta.url), 'utf8')
  for (const [, name] of options.matchAll(/^ {2}readonly (\w+)\?:/gm)) t.match(readme, `\`${name}\``)
})
