import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { checkPolicy, loadPolicy, testPolicy } from '@marty/rbac'
import { freePort, startRedis } from '@marty/testing'

const run = promisify(execFile)
const read = (file: string): string => readFileSync(new URL(`../../../${file}`, import.meta.url), 'utf8')
const blocks = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map(block => block[1]!)
const guide = read('docs/guides/authorization.md')
const [first = '', ...parts] = blocks(guide, 'yaml')
const tests = parts.pop() ?? ''

/** The first policy, with the sections that the guide adds or replaces later on. */
const policy = [
  ...new Map(
    [first, ...parts].flatMap(text => text.split(/^(?=\w+:)/m)).map(section => [section.split(':')[0], section])
  ).values()
].join('')

function folderOf (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'authorization-guide-'))
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  writeFileSync(join(folder, 'policy.yaml'), policy)
  writeFileSync(join(folder, 'policy.test.yaml'), tests)
  return folder
}

t.test('the first policy is sound by itself', async t => {
  t.same(checkPolicy(first, 'policy.yaml').problems, [])
})

t.test('the test file of the reference is about such a policy', async t => {
  const [sample = ''] = blocks(read('docs/reference/policy.md'), 'yaml')
  const { passed, failures, problems } = testPolicy(await loadPolicy(policy, 'policy.yaml'), sample, 'reference')
  t.same([failures, problems], [[], []])
  t.ok(passed > 10)
})

t.test('what the guide shows runs, and prints what it says', async t => {
  const server = await startRedis(await freePort())
  t.teardown(async () => { await server.stop() })
  const file = fileURLToPath(new URL(`authorization-guide-${process.pid}.mjs`, import.meta.url))
  t.teardown(() => { rmSync(file, { force: true }) })
  const [toSql = ''] = /^function toSql[\s\S]*?^}\n/m.exec(read('packages/rbac/README.md')) ?? []
  // Routes are added before the first question; in the guide each stands beside what is asked of it.
  writeFileSync(
    file,
    `${[...blocks(guide, 'js'), ...blocks(guide, 'javascript')].join('\n')}\nawait app.close()\n${toSql}`
  )
  const { stdout } = await run(process.execPath, [file], {
    cwd: folderOf(t),
    env: { ...process.env, REDIS_URL: `redis://127.0.0.1:${server.port}` }
  })
  const said = [...guide.matchAll(/^prints (`[^`]+`(?:, then `[^`]+`)*)/gm)].flatMap(([, texts]) =>
    texts!.slice(1, -1).split('`, then `')
  )
  t.strictSame(stdout.trim().split('\n'), said)
})

t.test('the commands do what the guide says', async t => {
  const cwd = folderOf(t)
  const marty = fileURLToPath(new URL('../../cli/dist/marty.js', import.meta.url))
  const outputs: string[] = []
  for (const line of blocks(guide, 'sh').join('').trim().split('\n')) {
    outputs.push(
      (
        await run('sh', ['-c', line.replace('npx @marty/cli', '"$NODE" "$MARTY"')], {
          cwd,
          env: { ...process.env, NODE: process.execPath, MARTY: marty }
        })
      ).stdout
    )
  }
  const [checked, tested, explained, typed] = outputs
  t.match(checked, /is valid/)
  t.match(tested, / 0 not\n$/, 'every rule is covered')
  t.equal(explained, blocks(guide, 'text')[0])
  t.match(typed, /is written from policy\.yaml/)
})
