import t from 'tap'
import { execFile } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

t.test('the quick start of the README runs and prints what it says', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const code = /```js\n([\s\S]*?)```/.exec(readme)?.[1]
  const prints = /^prints `(.*?)`/m.exec(readme)?.[1]
  if (code === undefined || prints === undefined) throw new Error('the README has no quick start')
  // Beside the compiled tests, so that packages are found as from anywhere in the repository.
  const file = fileURLToPath(new URL(`readme-quick-start-${process.pid}.mjs`, import.meta.url))
  t.teardown(() => { rmSync(file, { force: true }) })
  writeFileSync(file, code)
  const { stdout } = await promisify(execFile)(process.execPath, [file])
  t.equal(stdout.trim(), prints)
})

t.test('the claims of the README come out as it says', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const code = /## Claims of your own[\s\S]*?```js\n([\s\S]*?)```/.exec(readme)?.[1]
  const start = /```js\n([\s\S]*?)```/.exec(readme)?.[1]
  if (code === undefined || start === undefined) throw new Error('the README has no claims')
  const file = fileURLToPath(new URL(`readme-claims-${process.pid}.mjs`, import.meta.url))
  t.teardown(() => { rmSync(file, { force: true }) })
  writeFileSync(file, `${start}${code}console.log(plan, tenant)\n`)
  t.match((await promisify(execFile)(process.execPath, [file])).stdout, /\ngold acme\n$/)
})

t.test('the rotation of the README runs', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const code = /## Rotating keys[\s\S]*?```js\n([\s\S]*?)```/.exec(readme)?.[1]
  if (code === undefined) throw new Error('the README has no rotation')
  const file = fileURLToPath(new URL(`readme-rotation-${process.pid}.mjs`, import.meta.url))
  t.teardown(() => { rmSync(file, { force: true }) })
  writeFileSync(file, `import Fastify from 'fastify'
import { auth } from '@marty/auth'
const app = Fastify()
const [issuer, audience] = ['https://cameras.example', 'camera-service']
${code.replaceAll('/var/lib/app', t.testdir())}
console.log(app.auth.tokens.verify(app.auth.tokens.issue({ subject: 'alice' }).token).sub)
`)
  t.equal((await promisify(execFile)(process.execPath, [file])).stdout.trim(), 'alice')
})
