import t from 'tap'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

t.test('what the guide to authentication shows runs, and prints what it says', async t => {
  const guide = readFileSync(new URL('../../../docs/guides/authentication.md', import.meta.url), 'utf8')
  const code = [...guide.matchAll(/```js\n([\s\S]*?)```/g)].map(block => block[1]).join('\n')
  const file = fileURLToPath(new URL(`authentication-guide-${process.pid}.mjs`, import.meta.url))
  t.teardown(() => { rmSync(file, { force: true }) })
  writeFileSync(file, `${code}\nawait app.close()\n`)
  const secret = randomBytes(48).toString('base64')
  const { stdout } = await promisify(execFile)(process.execPath, [file], {
    env: { ...process.env, JWT_SECRET: secret, API_KEY_PEPPER: secret, REFRESH_SECRET: secret }
  })
  t.strictSame(stdout.trim().split('\n'), ['200 900 200', 'true', 'true 401'])
  for (const line of stdout.trim().split('\n')) t.ok(guide.includes(`\`${line}\``), `the guide says so: ${line}`)
})
