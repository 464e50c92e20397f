import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')

t.test('the example runs and prints what its comments say', async t => {
  const snippet = readme.split('```js\n')[1]?.split('```')[0] ?? ''
  const file = fileURLToPath(new URL('readme-example.mjs', import.meta.url))
  writeFileSync(file, snippet)

  const printed = execFileSync(process.execPath, [file], { encoding: 'utf8' })

  const expected = [...snippet.matchAll(/^console\.log\(.*\) \/\/ (.*)$/gm)].map(([, text]) => text)
  t.equal(expected.length, 2)
  t.strictSame(printed.trim().split('\n'), expected)
})

t.test('every function and class that the README lists is exported', async t => {
  const core = await import('@marty/core')
  const rows = readme.split('## Parts for plugins')[1]?.split('\n## ')[0]?.match(/^\| `.*$/gm) ?? []
  const names = rows.flatMap(row => [...row.split('|')[1]!.matchAll(/`(\w+)`/g)].map(([, name = '']) => name))
  t.ok(names.length > 10)
  for (const name of names) t.ok(name in core, name)
})
