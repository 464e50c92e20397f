import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { checkPolicy } from '@marty/rbac'

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
const block = (language: string): string => readme.split(`\`\`\`${language}\n`)[1]?.split('```')[0] ?? ''

t.test('the quick start runs as printed', async t => {
  const file = fileURLToPath(new URL('readme-quick-start.mjs', import.meta.url))
  writeFileSync(file, block('js'))
  const output = execFileSync(process.execPath, [file], { cwd: fileURLToPath(new URL('../../..', import.meta.url)), encoding: 'utf8' })
  t.same(output.trimEnd().split('\n'), ['401', 'true', 'no role of the caller (viewer) is allowed snapshot:take'])
})

t.test('decisions by id are as printed', async t => {
  const file = fileURLToPath(new URL('readme-by-id.mjs', import.meta.url))
  writeFileSync(file, `import { loadPolicy } from '@marty/rbac'
const policy = await loadPolicy(${JSON.stringify(block('yaml'))}, 'README.md')
const principal = { id: 'ada', roles: Object.freeze(['viewer']) }
const resource = { owner: 'ada' }
${block('ts').replace('policy.decideId', 'console.log(policy.decideId').trimEnd()})
`)
  t.equal(execFileSync(process.execPath, [file], { encoding: 'utf8' }).trim(), 'true')
})

t.test('the policy in it is sound', async t => {
  t.same(checkPolicy(block('yaml'), 'README.md').problems, [])
})
