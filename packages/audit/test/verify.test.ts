import t from 'tap'
import fc from 'fast-check'
import { createHash, generateKeyPairSync } from 'node:crypto'
import { appendFileSync, existsSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import {
  audit,
  verifyAuditLog,
  verifyCheckpoint,
  type AuditCheckpoints,
  type SignedCheckpoint,
  type VerifyOptions
} from '@marty/audit'
import Fastify from 'fastify'
import type { Test } from 'tap'
import { until } from '@marty/testing'
import { event, logFile, PRODUCT } from './service.js'

const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const other = generateKeyPairSync('ed25519')

/** A log of so many events, closed, in files of about four records when `rotated`. */
async function written (
  t: Test,
  file: string,
  events: number,
  { rotated = false, checkpoints }: { rotated?: boolean; checkpoints?: Partial<AuditCheckpoints> } = {}
): Promise<string[]> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(audit, {
    sink: { file, mode: 'sync', rotate: rotated ? { maxBytes: 3_200 } : false },
    product: PRODUCT,
    ...(checkpoints === undefined ? {} : { checkpoints: { key: privateKey, everyEvents: 3, ...checkpoints } })
  })
  for (let i = 1; i <= events; i++) await app.audit.record(event({ action: `act.${i}` }))
  await app.close()
  return readFileSync(file, 'utf8').split('\n').slice(0, -1)
}

/** A caller whose options are not understood would verify with less evidence than he has. */
async function refusesOptions (t: Test, file: string, checkpoints: readonly SignedCheckpoint[]): Promise<void> {
  const x25519 = generateKeyPairSync('x25519').publicKey
  const bad: Array<[string, unknown]> = [
    ['"publicKey" must be an Ed25519 public key', { publicKey: x25519 }],
    ['"publicKey"', { publicKey: [publicKey, x25519] }],
    ['"publicKey"', { publicKey: 'no key' }],
    ['"publicKey"', { publicKey: null }],
    ['did you mean "publicKey"', { publicKeys: publicKey }],
    ['"heads" is not known', { publicKey, heads: checkpoints }],
    ['"headsFile" is not known', { publicKey, headsFile: `${file}.heads` }],
    ['"checkpoints"', { publicKey, checkpoints: checkpoints[0] }],
    ['"checkpointsFile"', { publicKey, checkpointsFile: '' }],
    ['"acceptUnproven"', { publicKey, acceptUnproven: 'a'.repeat(64) }],
    ['must be an object', null]
  ]
  for (const [message, options] of bad) {
    const error = await verifyAuditLog(file, options as VerifyOptions).then(
      () => null,
      (error: unknown) => error
    )
    t.match(error, { code: 'MARTY_AUDIT_OPT_INVALID' }, message)
    t.ok((error as Error | null)?.message.includes(message), `${message}: ${String(error)}`)
  }
}

const checkpointsOf = (file: string): SignedCheckpoint[] =>
  readFileSync(`${file}.heads`, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map(line => JSON.parse(line) as SignedCheckpoint)

/** A line with another content and a hash that is right for it, as somebody without a key can make it. */
function resealed (line: string, change: (body: string) => string): string {
  const body = change(line.replace(/,"hash":"[0-9a-f]{64}"\}$/, '}'))
  const { prev } = JSON.parse(body) as { prev: string }
  return `${body.slice(0, -1)},"hash":"${createHash('sha256').update(`${prev}\n${body}`).digest('hex')}"}`
}

t.test('what was done to a log is told, and where', async t => {
  const file = logFile(t)
  const lines = await written(t, file, 8)
  t.match(await verifyAuditLog(file), { ok: true, records: 9, gaps: [], warnings: [], signedSeq: null, files: [file] })
  const foreign = await written(t, logFile(t), 8)
  const forged = resealed(lines[3]!, body => body.replace('alice', 'mallory'))
  const cases: Array<[string, string[], object]> = [
    ['edit', lines.with(3, lines[3]!.replace('alice', 'mallo')), { kind: 'edited', line: 4, seq: 4 }],
    ['edit of the last', lines.with(-1, lines.at(-1)!.replace('success', 'failure')), { kind: 'edited', line: 9 }],
    ['a hash replaced', lines.with(3, lines[3]!.replace(/"hash":"./, '"hash":"x')), { kind: 'edited', line: 4 }],
    ['white space', lines.with(2, lines[2]!.replace('{', '{ ')), { kind: 'edited', line: 3 }],
    ['a line made unreadable', lines.with(4, '#'.repeat(lines[4]!.length)), { kind: 'edited', line: 5, seq: null }],
    ['edit with a new hash', lines.with(3, forged), { kind: 'edited', line: 4, seq: 4 }],
    ['edit of the first', lines.with(0, lines[0]!.replace('alice', 'mallo')), { kind: 'edited', line: 1 }],
    ['delete the first', lines.slice(1), { kind: 'deleted', line: 1, seq: 2 }],
    ['delete one', lines.toSpliced(4, 1), { kind: 'deleted', line: 5, seq: 6 }],
    ['delete the one before the last', lines.toSpliced(-2, 1), { kind: 'deleted', line: 8, seq: 9 }],
    ['delete several', lines.toSpliced(2, 3), { kind: 'deleted', line: 3, seq: 6 }],
    ['duplicate', lines.toSpliced(4, 0, lines[3]!), { kind: 'duplicated', line: 5, seq: 4 }],
    ['duplicate further down', lines.toSpliced(7, 0, lines[1]!), { kind: 'duplicated', line: 8, seq: 2 }],
    ['duplicate further up', lines.toSpliced(2, 0, lines[6]!), { kind: 'duplicated', line: 3, seq: 7 }],
    ['duplicate at the top', lines.toSpliced(0, 0, lines[6]!), { kind: 'duplicated', line: 1, seq: 7 }],
    ['insert a valid line of another log', lines.toSpliced(4, 0, foreign[4]!), { kind: 'inserted', line: 5, seq: 5 }],
    ['insert one of another log at the top', lines.toSpliced(0, 0, foreign[0]!), { kind: 'inserted', line: 1, seq: 1 }],
    ['insert one of a lower number', lines.toSpliced(4, 0, foreign[1]!), { kind: 'inserted', line: 5, seq: 2 }],
    ['insert one made to fit', lines.toSpliced(3, 0, forged), { kind: 'inserted', line: 4, seq: 4 }],
    ['insert one made to fit, after its place', lines.toSpliced(5, 0, forged), { kind: 'inserted', line: 6, seq: 4 }],
    ['insert text', lines.toSpliced(4, 0, 'dear diary'), { kind: 'inserted', line: 5, seq: null }],
    ['an empty line', lines.toSpliced(4, 0, ''), { kind: 'inserted', line: 5 }],
    ['an empty line at the end', [...lines, ''], { kind: 'edited', line: 10 }],
    ['replace by a valid line of another log', lines.with(4, foreign[4]!), { kind: 'edited', line: 5, seq: 5 }],
    ['replace by one of a higher number', lines.with(4, foreign[6]!), { kind: 'edited', line: 5, seq: 7 }],
    ['swap', lines.with(2, lines[5]!).with(5, lines[2]!), { kind: 'reordered', line: 3, seq: 6 }],
    ['swap the first', lines.with(0, lines[1]!).with(1, lines[0]!), { kind: 'reordered', line: 1, seq: 2 }],
    ['move to the end', [...lines.toSpliced(3, 1), lines[3]!], { kind: 'reordered', line: 4, seq: 5 }]
  ]
  for (const [what, changed, expected] of cases) {
    writeFileSync(file, changed.join('\n') + '\n')
    t.match(await verifyAuditLog(file), { ok: false, file, message: /Keep the log/, ...expected }, what)
  }
  writeFileSync(file, lines.slice(0, -3).join('\n') + '\n')
  t.match(
    await verifyAuditLog(file),
    { ok: true, records: 6 },
    'a log cut off at the end is a shorter valid chain; only checkpoints tell'
  )
  writeFileSync(file, lines.join('\n'))
  t.match(
    await verifyAuditLog(file),
    { ok: true, records: 9, warnings: [] },
    'a record whose newline was lost is whole'
  )
  writeFileSync(file, `${lines.join('\n')}x`)
  t.match(
    await verifyAuditLog(file),
    { ok: false, kind: 'edited', line: 9 },
    'a whole line with something behind it is no half-written one'
  )
  writeFileSync(file, `${lines.join('\n')}\ndear diary`)
  t.match(await verifyAuditLog(file), { ok: false, kind: 'edited', line: 10 }, 'nor is something else')
  await t.rejects(verifyAuditLog(join(dirname(file), 'missing.log')), { code: 'ENOENT' })
})

t.test('any change of any byte is found', async t => {
  const file = logFile(t)
  await written(t, file, 4)
  const bytes = readFileSync(file)
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const changed = Buffer.from(bytes)
      changed[at] = changed[at]! ^ change
      writeFileSync(file, changed)
      const line = bytes.subarray(0, at).filter(byte => byte === 0x0a).length + 1
      const result = await verifyAuditLog(file)
      return !result.ok && result.line === line && result.kind === 'edited'
    }),
    { numRuns: 400 }
  )
})

type Change = 'edit' | 'delete' | 'insert' | 'swap' | 'duplicate' | 'truncate'

t.test('any single change of a log of several files is found, and the first bad record is the right one', async t => {
  const file = logFile(t)
  await written(t, file, 20, { rotated: true, checkpoints: {} })
  const foreign = await written(t, logFile(t), 20)
  const folder = dirname(file)
  const names = readdirSync(folder)
    .filter(name => name.endsWith('.log'))
    .sort((a, b) => (a.length === b.length ? a.localeCompare(b) : b.length - a.length))
  t.ok(names.length >= 4, names.join())
  const whole = new Map(names.map(name => [name, readFileSync(join(folder, name), 'utf8')]))
  const places = names.flatMap(name =>
    whole
      .get(name)!
      .split('\n')
      .slice(0, -1)
      .map((text, index) => ({ name, line: index + 1, text }))
  )
  t.match(await verifyAuditLog(file, { publicKey }), {
    ok: true,
    records: places.length,
    signedSeq: places.length,
    gaps: []
  })

  const kinds: Record<Change, string> = {
    edit: 'edited',
    delete: 'deleted',
    insert: 'inserted',
    swap: 'reordered',
    duplicate: 'duplicated',
    truncate: 'truncated'
  }
  const run = async (change: Change, one: number, two: number): Promise<string | null> => {
    const texts = places.map(({ text }) => text)
    const [low, high] = one < two ? [one, two] : [two, one]
    let bad = low
    switch (change) {
      case 'edit':
        texts[low] = texts[low]!.replace(/.(.{2})$/, 'z$1')
        break
      case 'delete':
        texts.splice(low, 1, '')
        break
      case 'insert':
        texts[low] = `${foreign[high]!}\n${texts[low]!}`
        break
      case 'swap':
        if (low === high) return null
        ;[texts[low], texts[high]] = [texts[high]!, texts[low]!]
        break
      case 'duplicate':
        texts[high] = `${texts[high]!}\n${texts[low]!}`
        bad = high
        break
      case 'truncate':
        texts.splice(low, texts.length, ...texts.slice(low).map(() => ''))
        break
    }
    for (const name of names) {
      const text = places
        .flatMap((place, index) => (place.name === name && texts[index] !== '' ? [`${texts[index]!}\n`] : []))
        .join('')
      if (text === '') rmSync(join(folder, name), { force: true })
      else writeFileSync(join(folder, name), text)
    }
    if (change === 'truncate' && low === 0) return null
    const result = await verifyAuditLog(file, { publicKey })
    if (result.ok) return `${change} ${low} ${high} was not found`
    // A record that is gone shows in the one after it, on its line.
    const after =
      change === 'delete' && (low === places.length - 1 || places[low + 1]!.name !== places[low]!.name)
        ? places[low + 1]
        : places[bad]
    const line = change === 'duplicate' ? after!.line + 1 : after?.line
    const kind = change === 'delete' && low === places.length - 1 ? 'truncated' : kinds[change]
    const place =
      change === 'truncate' || kind === 'truncated'
        ? result.seq === low + 1
        : result.file === join(folder, after!.name) && result.line === line
    // A record put before the first one, which is signed, contradicts the checkpoint before it breaks the chain.
    const named = result.kind === kind || (change === 'insert' && low === 0 && result.kind === 'checkpoint-mismatch')
    return named && place ? null : `${change} ${low} ${high}: ${JSON.stringify(result)}`
  }
  const change = fc.constantFrom<Change>('edit', 'delete', 'insert', 'swap', 'duplicate', 'truncate')
  await fc.assert(
    fc.asyncProperty(change, fc.nat(places.length - 1), fc.nat(places.length - 1), async (what, one, two) => {
      const problem = await run(what, one, two)
      if (problem !== null) throw new Error(problem)
    }),
    { numRuns: 300 }
  )
  for (const [name, text] of whole) writeFileSync(join(folder, name), text)
  for (const name of names.slice(0, -1)) {
    rmSync(join(folder, name))
    t.match(await verifyAuditLog(file, { publicKey }), { ok: false, kind: 'deleted', line: 1 }, `${name} deleted`)
    writeFileSync(join(folder, name), whole.get(name)!)
  }
})

t.test('a log cut off, set back or written anew contradicts its checkpoints', async t => {
  const kept: SignedCheckpoint[] = []
  const file = logFile(t)
  const lines = await written(t, file, 10, {
    checkpoints: {
      onCheckpoint (checkpoint) {
        kept.push(checkpoint)
      }
    }
  })
  const checkpoints = checkpointsOf(file)
  t.strictSame(kept, checkpoints, 'what is handed on is what is in the file')
  t.strictSame(
    checkpoints.map(({ seq }) => seq),
    [1, 4, 7, 10, 11],
    'the first record at once, then every third, and the last'
  )
  t.ok(checkpoints.every(checkpoint => verifyCheckpoint(checkpoint, publicKey)))
  t.notOk(checkpoints.some(checkpoint => verifyCheckpoint(checkpoint, other.publicKey)))
  t.match(await verifyAuditLog(file, { publicKey }), { ok: true, signedSeq: 11 })
  t.match(
    await verifyAuditLog(file, {
      publicKey: [other.publicKey, publicKey.export({ type: 'spki', format: 'pem' }) as string],
      checkpoints: kept
    }),
    { ok: true, signedSeq: 11 }
  )
  t.match(await verifyAuditLog(file, { publicKey: privateKey }), { ok: true, signedSeq: 11 })
  t.match(await verifyAuditLog(file), { ok: true, signedSeq: null }, 'without a key, nothing is proven')
  await refusesOptions(t, file, kept)

  const cut = async (records: number): Promise<void> => {
    writeFileSync(
      file,
      lines
        .slice(0, records)
        .map(line => `${line}\n`)
        .join('')
    )
  }
  for (const records of [1, 5, 10]) {
    await cut(records)
    t.match(await verifyAuditLog(file, { publicKey }), {
      ok: false,
      kind: 'truncated',
      line: records + 1,
      seq: records + 1,
      records
    })
    t.match(await verifyAuditLog(file), { ok: false, kind: 'truncated' }, 'checkpoints count without a key too')
  }
  truncateSync(file, 100)
  t.match(await verifyAuditLog(file, { publicKey }), { ok: false, kind: 'truncated', seq: 1 })
  await cut(11)
  rmSync(`${file}.heads`)
  t.match(await verifyAuditLog(file, { publicKey }), { ok: false, kind: 'checkpoint-missing', file: `${file}.heads` })
  t.match(
    await verifyAuditLog(file, { publicKey, checkpoints: kept }),
    { ok: true, signedSeq: 11 },
    'checkpoints that were kept elsewhere will do'
  )
  await cut(6)
  t.match(await verifyAuditLog(file, { publicKey, checkpoints: kept.toReversed() }), {
    ok: false,
    kind: 'truncated',
    seq: 7
  })

  const anew = logFile(t)
  await written(t, anew, 10)
  t.match(await verifyAuditLog(anew, { publicKey, checkpointsFile: join(dirname(file), 'none'), checkpoints: kept }), {
    ok: false,
    kind: 'checkpoint-mismatch',
    line: 1,
    seq: 1
  })
  t.match(await verifyAuditLog(anew, { publicKey, checkpoints: kept.slice(2, 3) }), {
    ok: false,
    kind: 'checkpoint-mismatch',
    line: 7,
    seq: 7,
    message: /after record 0/
  })
})

t.test('checkpoints that the key did not sign are told', async t => {
  const file = logFile(t)
  await written(t, file, 10, { checkpoints: {} })
  const text = readFileSync(`${file}.heads`, 'utf8')
  const checkpoints = checkpointsOf(file)
  const of = (changed: Array<SignedCheckpoint | string>): string =>
    changed.map(checkpoint => (typeof checkpoint === 'string' ? checkpoint : JSON.stringify(checkpoint))).join('\n') +
    '\n'
  const [first, second, third] = checkpoints as [SignedCheckpoint, SignedCheckpoint, SignedCheckpoint]
  const cases: Array<[string, string, object]> = [
    ['another record', of([first, { ...second, seq: 5 }]), { kind: 'checkpoint-forged', line: 2, seq: 5 }],
    ['another hash', of([first, { ...second, hash: first.hash }]), { kind: 'checkpoint-forged', line: 2 }],
    ['another time', of([{ ...first, time: '2020-01-01T00:00:00.000Z' }]), { kind: 'checkpoint-forged', line: 1 }],
    ['a key nobody knows', of([{ ...first, key_id: 'x' }]), { kind: 'checkpoint-forged', line: 1 }],
    ['no signature', of([{ ...first, signature: '' }]), { kind: 'checkpoint-forged', line: 1 }],
    ['no checkpoint', of([first, 'dear diary', third]), { kind: 'checkpoint-forged', line: 2, seq: null }],
    ['no members', of([first, '{"seq":"1"}', third]), { kind: 'checkpoint-forged', line: 2, seq: null }],
    ['an older one again', of([first, third, second]), { kind: 'checkpoint-mismatch', line: 3, seq: 4 }]
  ]
  for (const [what, changed, expected] of cases) {
    writeFileSync(`${file}.heads`, changed)
    t.match(await verifyAuditLog(file, { publicKey }), { ok: false, file: `${file}.heads`, ...expected }, what)
  }
  writeFileSync(`${file}.heads`, `${text}{"seq":12,"ha`)
  t.match(
    await verifyAuditLog(file, { publicKey }),
    { ok: true, signedSeq: 11 },
    'a checkpoint that was being written is no checkpoint yet'
  )
  writeFileSync(`${file}.heads`, text)
  t.match(await verifyAuditLog(file, { publicKey: other.publicKey }), { ok: false, kind: 'checkpoint-forged', line: 1 })
  rmSync(`${file}.heads`)
  appendFileSync(`${file}.heads`, '')
  t.match(await verifyAuditLog(file, { publicKey }), { ok: false, kind: 'checkpoint-missing' })
  rmSync(`${file}.heads`)
  t.notOk(existsSync(`${file}.heads`))
  await t.rejects(verifyAuditLog(file, { publicKey, checkpointsFile: dirname(file) }), { code: 'EISDIR' })
})

t.test('a log is verified while it is written, rotated and pruned', async t => {
  const file = logFile(t)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(audit, {
    sink: { file, mode: 'async', rotate: { maxBytes: 30_000 } },
    product: PRODUCT,
    checkpoints: { key: privateKey, everyEvents: 10 }
  })
  const controller = new AbortController()
  const writing = (async () => {
    while (!controller.signal.aborted) {
      for (let i = 0; i < 3; i++) await app.audit.record(event())
      await new Promise(resolve => setTimeout(resolve, 2))
    }
  })()
  await until(() => existsSync(`${file}.heads`), 'the first checkpoint')
  const results = []
  for (let i = 0; i < 10; i++) results.push(await verifyAuditLog(file, { publicKey }))
  controller.abort()
  await writing
  await app.close()
  t.strictSame(
    results.filter(result => !result.ok),
    []
  )
  t.match(await verifyAuditLog(file, { publicKey }), { ok: true })
})

t.test('a line without an end does not fill the memory, and is named', async t => {
  const file = logFile(t)
  const lines = await written(t, file, 3)
  const huge = 'x'.repeat(5_000_000)
  writeFileSync(file, `${lines[0]!}\n${lines[1]!}\n${huge}`)
  t.match(await verifyAuditLog(file), { ok: false, kind: 'edited', line: 3 })
  writeFileSync(file, `${huge}\n${lines[1]!}\n`)
  t.match(await verifyAuditLog(file), { ok: false, kind: 'edited', line: 1 })
  await t.resolves(written(t, file, 1), 'a start does not read more of it than it has to')
})

t.test('a log that never rests is judged all the same', async t => {
  const file = logFile(t)
  const lines = await written(t, file, 5)
  writeFileSync(
    file,
    lines
      .with(2, lines[2]!.replace('alice', 'mallo'))
      .map(line => `${line}\n`)
      .join('')
  )
  let grows = true
  const grow = (): void => {
    if (!grows) return
    appendFileSync(file, `${lines[0]!}\n`)
    setImmediate(grow)
  }
  grow()
  const result = await verifyAuditLog(file)
  grows = false
  t.match(result, { ok: false, kind: 'edited', line: 3 })
})
