import { spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { audit } from '@marty/audit'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import { until } from '@marty/testing'
import { chainOf, forgedEvent, forgedStop } from '@marty/testing/audit-forgery'
import { marty, run, runAsChild } from './run.js'

const folder = t.testdir({})
const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const { publicKey: otherKey } = generateKeyPairSync('ed25519')
const pem = (name: string, key: typeof publicKey): string =>
  made(name, key.export({ type: 'spki', format: 'pem' }) as string)
const good = pem('good.pem', publicKey)
const other = pem('other.pem', otherKey)

function made (name: string, content: string): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

async function open (
  file: string,
  signed = true,
  rotate: { readonly maxBytes: number } | false = false
): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(audit, {
    sink: { file, mode: 'sync', rotate },
    product: { name: 'test', version: '1.0.0' },
    ...(signed ? { checkpoints: { key: privateKey } } : {})
  })
  app.get('/hello/:name', { config: { security: { public: true, audit: 'all' } } }, async () => 'Hello')
  await app.ready()
  return app
}

/** A real log: a start, three calls, a stop. */
async function log (
  name: string,
  signed = true,
  rotate: { readonly maxBytes: number } | false = false
): Promise<string> {
  mkdirSync(join(folder, name))
  const file = join(folder, name, 'audit.log')
  const app = await open(file, signed, rotate)
  for (const guest of ['one', 'two', 'three']) await app.inject(`/hello/${guest}`)
  await app.close()
  return file
}

const change = (file: string, edit: (lines: string[]) => string[]): void => {
  writeFileSync(file, edit(readFileSync(file, 'utf8').trimEnd().split('\n')).join('\n') + '\n')
}

t.test('a wrong command line or file', async t => {
  const file = await log('wrong')
  const cases: ReadonlyArray<readonly [RegExp, string[]]> = [
    [/audit verify needs FILE/, ['audit', 'verify']],
    [/no command "audit verfy"; did you mean "marty audit verify"/, ['audit', 'verfy', file]],
    [/no option "--public-kye"; did you mean "--public-key"/, ['audit', 'verify', file, '--public-kye', good]],
    [/none\.log cannot be read: there is no such file/, ['audit', 'verify', join(folder, 'none.log')]],
    [/there is no such file/, ['audit', 'verify', join(folder, 'no/where.log')]],
    [/it is a folder/, ['audit', 'verify', folder]],
    [/none\.pem cannot be read/, ['audit', 'verify', file, '--public-key', join(folder, 'none.pem')]],
    [/does not contain a public key in PEM format/, ['audit', 'verify', file, '--public-key', file]],
    [
      /must be an Ed25519 public key/,
      [
        'audit',
        'verify',
        file,
        '--public-key',
        pem('p256.pem', generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey)
      ]
    ],
    [/none\.heads cannot be read/, ['audit', 'verify', file, '--checkpoints', join(folder, 'none.heads')]],
    [
      /bad\.heads:2 is not a signed checkpoint/,
      ['audit', 'verify', file, '--checkpoints', made('bad.heads', '\n{"seq":')]
    ],
    [
      /short\.heads:1 is not a signed checkpoint/,
      ['audit', 'verify', file, '--checkpoints', made('short.heads', '{"seq":1,"hash":"x"}\n')]
    ],
    [
      /null\.heads:1 is not a signed checkpoint/,
      ['audit', 'verify', file, '--checkpoints', made('null.heads', 'null\n')]
    ],
    [
      /"last" is not the hash of a record\. Give the 64 hexadecimal digits/,
      ['audit', 'verify', file, '--accept-unproven', 'last']
    ],
    [/audit tail needs FILE/, ['audit', 'tail']],
    [/none\.log cannot be read: there is no such file/, ['audit', 'tail', join(folder, 'none.log')]],
    [/it is a folder/, ['audit', 'tail', folder]],
    [/--from "0" must be the number of a record/, ['audit', 'tail', file, '--from', '0']],
    [/--from "last" must be/, ['audit', 'tail', file, '--from', 'last']]
  ]
  for (const [message, args] of cases) {
    const { code, out, err } = await run(...args)
    t.equal(code, 2, args.join(' '))
    t.match(err, message)
    t.equal(out, '')
    t.notMatch(err, /\n {4}at /, 'no stack')
  }
})

t.test('verify names the first bad record and ends with 3', async t => {
  const edited = await log('edited')
  change(edited, lines => lines.map(line => line.replace('"127.0.0.1"', '"192.0.2.1"')))
  t.match(await runAsChild(['audit', 'verify', edited]), {
    code: 3,
    out: '',
    err: /audit\.log:2: edited at record 2: .{20}/
  })
  t.match(JSON.parse((await run('audit', 'verify', edited, '--json')).out), {
    ok: false,
    kind: 'edited',
    line: 2,
    seq: 2,
    file: edited,
    records: 1
  })

  const deleted = await log('deleted')
  change(deleted, lines => lines.toSpliced(2, 1))
  t.match(await run('audit', 'verify', deleted), { code: 3, err: /audit\.log:3: deleted at record 4: / })

  const cut = await log('cut')
  const kept = made('kept.heads', readFileSync(`${cut}.heads`, 'utf8'))
  change(cut, lines => lines.slice(0, 3))
  t.match(await run('audit', 'verify', cut), { code: 3, err: /audit\.log:4: truncated at record 4: / })
  change(`${cut}.heads`, lines => lines.slice(0, 1))
  t.match(await run('audit', 'verify', cut), { code: 0 }, 'whoever can cut off both is not found out')
  t.match(
    await run('audit', 'verify', cut, '--public-key', good, '--checkpoints', kept),
    { code: 3, err: /truncated at record 4/ },
    'but by checkpoints that were stored elsewhere'
  )

  const unsigned = await log('unsigned', false)
  t.match(await run('audit', 'verify', unsigned, '--public-key', good), {
    code: 3,
    err: /heads:0: checkpoint-missing: /
  })
  t.match(await run('audit', 'verify', unsigned), { code: 0, out: /signatures not verified \(no --public-key\)\n$/ })

  const forged = await log('forged')
  t.match(await run('audit', 'verify', forged, '--public-key', other), {
    code: 3,
    err: /audit\.log\.heads:1: checkpoint-forged at record \d+: /
  })
  const forgery = made(
    'forgery.heads',
    readFileSync(`${forged}.heads`, 'utf8')
      .split('\n')[0]!
      .replace(/"signature":"[^"]{4}/, '"signature":"AAAA')
  )
  t.match(
    await run('audit', 'verify', forged, '--public-key', good, '--checkpoints', forgery),
    { code: 3, err: /forgery\.heads:1: checkpoint-forged/ },
    'the file that was given is named'
  )
})

t.test('verify of a log that is intact', async t => {
  const file = await log('intact')
  t.match(await runAsChild(['audit', 'verify', file, '--public-key', good, '--checkpoints', `${file}.heads`]), {
    code: 0,
    err: '',
    out: `${file} is intact: 5 records in 1 file, signed to the end\n`
  })
  t.match(JSON.parse((await run('audit', 'verify', file, '--public-key', good, '--json')).out), {
    ok: true,
    records: 5,
    signedSeq: 5,
    warnings: []
  })

  // Something happened after the last checkpoint, and then the machine lost power.
  const app = await open(file)
  await app.inject('/hello/four')
  await until(() => readFileSync(file, 'utf8').split('\n').length === 8, 'the record of the call')
  const soFar = readFileSync(file)
  await app.close()
  writeFileSync(file, soFar)
  change(`${file}.heads`, lines => lines.filter(line => (JSON.parse(line) as { seq: number }).seq <= 6))
  appendFileSync(file, '{"seq":8,"ti')
  const torn = await run('audit', 'verify', file, '--public-key', good)
  t.match(torn, {
    code: 0,
    err: /audit\.log:8: warning: torn: .*Nothing has to be done/,
    out: /intact: 7 records in 1 file, signed up to record 6 of 7\n$/
  })

  await (await open(file)).close()
  const unproven = await run('audit', 'verify', file, '--public-key', good)
  t.match(
    unproven,
    { code: 7, out: '', err: /audit\.log:7: unproven at record 7: Record 7 is not proven/ },
    'the next start marks it, and names what is not signed'
  )
  const [hash = ''] = /[0-9a-f]{64}/.exec(unproven.err) ?? []
  const accepted = await run('audit', 'verify', file, '--public-key', good, '--accept-unproven', hash)
  t.match(accepted, {
    code: 0,
    out: /is intact: .*signed to the end/,
    err: /audit\.log:\d+: warning: gap at record 8: [^\n]*\n.*:7: warning: unproven: records 7 to 7, accepted by --accept-unproven/
  })
})

t.test('verify names records behind a signed orderly end, and ends with 7 for good', async t => {
  const file = await log('behind')
  const forge = (): void => {
    change(file, lines => [...lines, ...chainOf(lines.at(-1)!, forgedEvent, forgedStop)])
  }
  forge()
  const first =
    /audit\.log:6: unproven at record 6: .*after a signed orderly end.*\n.*:6: unproven: records 6 to 7 \(hash [0-9a-f]{64}\)\nNothing else is wrong with/
  t.match(await run('audit', 'verify', file, '--public-key', good), { code: 7, out: '', err: first })
  await (await open(file)).close()
  t.match(await runAsChild(['audit', 'verify', file, '--public-key', good]), { code: 7, out: '', err: first })
  forge()
  const both = JSON.parse((await run('audit', 'verify', file, '--public-key', good, '--json')).out) as object
  t.match(both, {
    ok: false,
    kind: 'unproven',
    seq: 6,
    line: 6,
    unproven: [
      { firstSeq: 6, lastSeq: 7, afterStop: true, namedBy: { seq: 8 } },
      { firstSeq: 11, lastSeq: 12, namedBy: null }
    ]
  })
  t.match(
    await run('audit', 'verify', file),
    { code: 7, err: /Nothing else is wrong with the log: 12 records\n/ },
    'without a key too'
  )

  const cut = await log('cut-while-running', true)
  const app = await open(cut)
  await until(() => readFileSync(`${cut}.heads`, 'utf8').includes('"seq":6,'), 'the first checkpoint')
  await app.inject('/hello/you')
  await until(() => readFileSync(cut, 'utf8').split('\n').length === 8, 'the record of the call')
  change(cut, lines => lines.slice(0, 6))
  await app.inject('/hello/you')
  await app.close()
  t.match(await run('audit', 'verify', cut, '--public-key', good), {
    code: 7,
    err: /unproven: 1 record removed after record 6 /
  })
})

t.test('tail', async t => {
  const file = await log('tail', true, { maxBytes: 1_200 })
  const all = await runAsChild(['audit', 'tail', file])
  t.match(all, {
    code: 0,
    err: '',
    out: /^1 \d{4}-\S+Z success service\.start service\n2 \S+ success GET \/hello\/:name anonymous 127\.0\.0\.1( .*)?\n/
  })
  t.equal(all.out.trimEnd().split('\n').length, 5, 'through all files')
  const json = (await run('audit', 'tail', file, '--from', '4', '--json')).out
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as { seq: number })
  t.same(
    json.map(({ seq }) => seq),
    [4, 5]
  )
  t.match(await run('audit', 'tail', file, '--from', '99'), { code: 0, out: '' })
  t.match(await run('audit', 'tail', file, '--from', 'end'), { code: 0, out: '' })
})

t.test('what was smuggled into a log steers no terminal', async t => {
  const record = {
    seq: 1,
    time_dt: 'now',
    status: 'ok',
    activity_name: 'x\u001b[2J\u202e',
    actor: { user: { type: 'user', uid: 'eve\r\u2028' } }
  }
  const { out } = await run(
    'audit',
    'tail',
    made('smuggled.log', `${JSON.stringify(record)}\nno record\n${JSON.stringify({ seq: 2 })}\n`)
  )
  t.equal(out, '1 now ok x\\u001b[2J\\u202e user:eve\\u000d\\u2028\n2\n')
})

t.test('tail --follow shows what happens, until it is stopped or nobody looks', async t => {
  const file = await log('follow')
  const child = spawn(process.execPath, [marty, 'audit', 'tail', file, '--follow', '--from', '5'])
  let out = ''
  child.stdout.on('data', chunk => {
    out += String(chunk)
  })
  await until(() => out.includes('service.stop'), 'the last record')
  const app = await open(file)
  await app.inject('/hello/you')
  await until(() => /^7 .*GET/m.test(out), 'what has just happened')
  t.match(out, /^5 .*service\.stop.*\n6 .*service\.start.*\n7 .*GET/)
  const ended = new Promise(resolve => {
    child.once('close', (code, signal) => {
      resolve(signal ?? code)
    })
  })
  child.stdout.destroy()
  await app.inject('/hello/again')
  t.equal(await ended, 0, 'the reader went away, as "head" does')
  await app.close()
})
