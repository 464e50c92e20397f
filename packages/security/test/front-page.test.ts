import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort, until } from '@marty/testing'
import t from 'tap'

const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8')
const block = (language: string): string => readme.split(`\`\`\`${language}\n`)[1]?.split('```')[0] ?? ''

t.test('the first program of the repository\'s README answers what the README prints', async t => {
  const port = await freePort()
  const folder = mkdtempSync(join(import.meta.dirname, 'front-page-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  writeFileSync(join(folder, 'policy.yaml'), block('yaml'))
  writeFileSync(join(folder, 'server.mjs'), block('ts').replace('port: 3000', `port: ${port}`))

  const server = spawn(process.execPath, ['server.mjs'], { cwd: folder })
  t.teardown(() => { server.kill('SIGKILL') })
  let output = ''
  server.stdout.on('data', chunk => { output += String(chunk) })
  server.stderr.on('data', chunk => { output += String(chunk) })
  await until(() => {
    if (server.exitCode !== null) throw new Error(output)
    return /^ey\S+\n/m.test(output)
  }, 'the program to print a token')
  const token = /^ey\S+$/m.exec(output)![0]

  const printed = block('console').split(/^\$ /m).slice(1)
  t.equal(printed.length, 5)
  const statuses: number[] = []
  for (const text of printed) {
    const [command = '', expected] = text.trimEnd().split('\n')
    const [, method = 'GET', authorization, path] =
      /^curl(?: -X (\w+))?(?: -H "Authorization: (.+)")? localhost:3000(\S+)$/.exec(command) ?? []
    const headers = authorization === undefined ? {} : { authorization: authorization.replace('$TOKEN', token) }
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, headers })
    statuses.push(response.status)
    t.equal(withoutVariables(await response.text()), withoutVariables(expected!), command)
  }
  t.strictSame(statuses, [401, 403, 200, 200, 429])
})

/** The time to wait differs from run to run. */
function withoutVariables (body: string): string {
  return body.replace(/"retry_after_ms":\d+/, '"retry_after_ms":0').replace(/in \d+ ms/, 'in 0 ms')
}
