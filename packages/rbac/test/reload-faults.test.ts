import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import t from 'tap'
import { rbac } from '@marty/rbac'
import { POLICY, policyWith } from './policy-text.js'

// Threads that crash, hang and run out of memory.

t.setTimeout(120_000)

const WIDER = policyWith("allow: ['camera:view',", "allow: ['camera:configure', 'camera:view',")

t.test('a thread that fails is a reload that fails', async t => {
  // A copy of the package whose thread does what the last line of the text says.
  const copy = fileURLToPath(new URL('./reload-faults/', import.meta.url))
  cpSync(fileURLToPath(new URL('../dist/', import.meta.url)), copy, { recursive: true })
  t.teardown(() => {
    rmSync(copy, { recursive: true, force: true })
  })
  const change = (name: string, piece: string, replacement: string): void => {
    const text = readFileSync(`${copy}${name}.js`, 'utf8')
    if (text.split(piece).length !== 2) throw new Error(`${name}.js does not hold once: ${piece}`)
    writeFileSync(
      `${copy}${name}.js`,
      text.replace(piece, () => replacement)
    )
  }
  change(
    'reload/worker',
    'const policy = loadAfter(',
    `const fault = textOf(bytes).trimEnd().split('# ')[1];
    if (fault === 'exit') process.exit(3);
    if (fault === 'throw') throw new Error('out of order');
    if (fault === 'memory') for (const hog = []; ;) hog.push(new Array(1000).fill(hog.length));
    while (fault === 'hang') ;
    const policy = loadAfter(`
  )
  change('reload/compiler', 'const MAX_HEAP_MB = 768', 'const MAX_HEAP_MB = 48')
  const faulty = (await import(`${copy}index.js`)) as typeof import('@marty/rbac')

  const folder = mkdtempSync(join(tmpdir(), 'marty-reload-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const file = join(folder, 'rbac.yaml')
  writeFileSync(file, POLICY)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(faulty.rbac, {
    policyFile: file,
    environment: 'prod',
    reload: { pollMs: 60_000, timeoutSeconds: 8 }
  })
  const fails = async (fault: string, told: RegExp): Promise<void> => {
    writeFileSync(file, `${POLICY}# ${fault}\n`)
    t.match((await app.rbac.reload()).problems, [{ source: file, message: told }], fault)
  }
  await fails('exit', /^could not be compiled: the thread ended$/)
  await fails('throw', /^could not be compiled: out of order$/)
  await fails('memory', /^could not be compiled: .*memory/)
  await fails('hang', /^could not be compiled within 8 seconds$/)
  t.equal(app.rbac.policy.generation, 1)
  writeFileSync(file, WIDER)
  t.match(await app.rbac.reload(), { generation: 2, stale: false }, 'the next thread works')
  writeFileSync(file, `${POLICY}# hang\n`)
  const hanging = app.rbac.reload()
  await app.close()
  t.match(await hanging, { generation: 2, stale: false }, 'closing waits for no thread')
  t.match(await app.rbac.reload(), { generation: 2 })
})

t.test('a text that is a burden to read is given up', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'marty-reload-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const file = join(folder, 'rbac.yaml')
  writeFileSync(file, POLICY)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(rbac, { policyFile: file, environment: 'prod', reload: { pollMs: 60_000, timeoutSeconds: 0.1 } })
  writeFileSync(file, `[${'[],'.repeat(1_600_000)}]`)
  t.match(await app.rbac.reload(), {
    generation: 1,
    stale: true,
    problems: [{ source: file, message: 'could not be compiled within 0.1 seconds' }]
  })
  writeFileSync(file, POLICY)
  t.match(await app.rbac.reload(), { generation: 1, stale: false })
})
