import t from 'tap'
import fc from 'fast-check'
import { mock } from 'node:test'
import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import { appendFileSync, cpSync, readFileSync, rmSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { verifyAuditLog, type AuditVerification, type SignedCheckpoint } from '@marty/audit'
import type { Test } from 'tap'
import {
  chainOf,
  forged,
  forgedEvent,
  forgedGap,
  forgedPrune,
  forgedStart,
  forgedStop
} from '@marty/testing/audit-forgery'
import { until } from '@marty/testing'
import { act, Files, CHECKPOINTS, open } from './attacker.js'
import { event, logFile } from './service.js'

const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const attacker = generateKeyPairSync('ed25519').privateKey
const DAY_SECONDS = 86_400
const DAY_MS = DAY_SECONDS * 1000

interface History {
  readonly files: Files
  readonly kept: SignedCheckpoint[]
  readonly before: string
}

/** Two orderly runs, of six records each; `before` is a copy after the first. Heads are kept elsewhere too. */
async function history (t: Test): Promise<History> {
  const files = new Files(logFile(t))
  const kept: SignedCheckpoint[] = []
  const before = join(dirname(files.folder), 'before')
  for (let run = 0; run < 2; run++) {
    const app = await open(files.log, privateKey, {
      everyEvents: 3,
      onCheckpoint (checkpoint) {
        kept.push(checkpoint)
      }
    })
    await act(app, 4)
    await app.close()
    if (run === 0) files.copy(before)
  }
  return { files, kept, before }
}

const seqOf = (line: string): number => (JSON.parse(line) as { seq: number }).seq
const hashOf = (line: string): string => (JSON.parse(line) as { hash: string }).hash

/** The service starts, and stops in order. */
async function run (files: Files, events = 1): Promise<string | null> {
  const app = await open(files.log, privateKey).catch((error: { code: string }) => error.code)
  if (typeof app === 'string') return app
  await act(app, events)
  await app.close()
  return null
}

/** What is found with the public key, in a word. */
const wordOf = (result: AuditVerification): string => (result.ok ? 'ok' : `${result.kind} ${result.seq ?? '-'}`)

function signedBy (key: typeof privateKey, line: string): string {
  const { seq, hash } = JSON.parse(line) as { seq: number; hash: string }
  const { x } = createPublicKey(key).export({ format: 'jwk' })
  const id = 'y'.repeat(20) + String(x)
  const time = new Date().toISOString()
  const signature = sign(null, Buffer.from(['marty-audit-head-v1', seq, hash, time, id].join('\n')), key).toString(
    'base64url'
  )
  return JSON.stringify({ seq, hash, time, key_id: id, signature })
}

const REFUSED = 'MARTY_AUDIT_FILE_INVALID'
const LOG = 'audit.log'
const append = (files: Files, ...members: object[]): void => {
  files.change(LOG, lines => [...lines, ...chainOf(lines.at(-1)!, ...members)])
}
const cutCheckpoints = (files: Files, seq: number): void => {
  files.change(CHECKPOINTS, checkpoints =>
    checkpoints.filter(checkpoint => (JSON.parse(checkpoint) as SignedCheckpoint).seq <= seq)
  )
}
const rewrite = (lines: string[], from: number): string[] => [
  ...lines.slice(0, from),
  ...chainOf(lines[from - 1]!, ...lines.slice(from).map(() => forgedEvent))
]

interface Attack {
  readonly what: string
  readonly attack: (files: Files, history: History) => void
  /** With the checkpoints beside the log: at once, and after the service has run once more (or its refusal). */
  readonly found: readonly [string, string]
  /** With checkpoints that were kept elsewhere. */
  readonly kept: readonly [string, string]
}

// Records 1 to 6 are the first run, 7 to 12 the second; checkpoints are at 1, 4, 6, 7, 10 and 12. Records 6 and 12 are
// orderly ends.
const ATTACKS: readonly Attack[] = [
  {
    what: 'records behind a signed orderly end',
    attack (files) {
      append(files, forgedEvent, forgedEvent)
    },
    found: ['unproven 13', 'unproven 13'],
    kept: ['unproven 13', 'unproven 13']
  },
  {
    what: 'a whole run, from its start to its orderly end, behind a signed one',
    attack (files) {
      append(files, forgedStart, forgedEvent, forgedStop)
    },
    found: ['unproven 13', 'unproven 13'],
    kept: ['unproven 13', 'unproven 13']
  },
  {
    what: 'the marker of a crash behind a signed orderly end',
    attack (files) {
      append(files, forgedGap, forgedEvent)
    },
    found: ['unproven 13', 'unproven 13'],
    kept: ['unproven 13', 'unproven 13']
  },
  {
    what: 'a record that says that it is all right',
    attack (files) {
      const unproven = { after_seq: 13, after_hash: 'x', last_seq: 13, last_hash: 'x', written_seq: 'x' }
      append(files, forgedEvent, { ...forgedGap, activity_name: 'audit.unproven', unproven }, forgedStop)
    },
    found: ['unproven 13', 'unproven 13'],
    kept: ['unproven 13', 'unproven 13']
  },
  {
    what: 'the oldest records deleted, with a deletion of its own making',
    attack (files) {
      files.change(LOG, lines => [...lines.slice(3), ...chainOf(lines.at(-1)!, forgedPrune(lines[3]!), forgedStop)])
    },
    found: ['deleted 4', 'deleted 4'],
    kept: ['deleted 4', 'deleted 4']
  },
  {
    what: 'the same, and the checkpoints as well',
    attack (files) {
      files.change(LOG, lines => [...lines.slice(3), ...chainOf(lines.at(-1)!, forgedPrune(lines[3]!), forgedStop)])
      files.remove(CHECKPOINTS)
    },
    found: ['deleted 4', 'deleted 4'],
    kept: ['deleted 4', 'deleted 4']
  },
  {
    what: 'a deletion that claims more than is gone',
    attack (files) {
      const claim = { activity_name: 'audit.prune', class_uid: 1008, first_seq: 1, last_seq: 9, last_hash: 'x' }
      files.change(LOG, lines => [...lines.slice(3), ...chainOf(lines.at(-1)!, claim, forgedStop)])
    },
    found: ['deleted 4', 'deleted 4'],
    kept: ['deleted 4', 'deleted 4']
  },
  {
    what: 'a record in the middle deleted',
    attack (files) {
      files.change(LOG, lines => lines.toSpliced(4, 1))
    },
    found: ['deleted 6', 'deleted 6'],
    kept: ['deleted 6', 'deleted 6']
  },
  {
    what: 'the last records deleted',
    attack (files) {
      files.change(LOG, lines => lines.slice(0, -2))
    },
    found: ['truncated 11', REFUSED],
    kept: ['truncated 11', REFUSED]
  },
  {
    what: 'the last records and their checkpoints deleted: a full return to an earlier signed state',
    attack (files) {
      files.change(LOG, lines => lines.slice(0, 6))
      cutCheckpoints(files, 6)
    },
    found: ['ok', 'ok'],
    kept: ['truncated 7', 'checkpoint-mismatch 7']
  },
  {
    what: 'the last records and their checkpoints deleted, with forged ones in their place',
    attack (files) {
      files.change(LOG, lines => rewrite(lines, 6))
      cutCheckpoints(files, 6)
    },
    found: ['unproven 7', 'unproven 7'],
    kept: ['checkpoint-mismatch 7', 'checkpoint-mismatch 7']
  },
  {
    what: 'records before the last checkpoint written anew',
    attack (files) {
      files.change(LOG, lines => [...rewrite(lines, 8), ...chainOf(rewrite(lines, 8).at(-1)!, forgedEvent)])
    },
    found: ['checkpoint-mismatch 10', 'checkpoint-mismatch 10'],
    kept: ['checkpoint-mismatch 10', 'checkpoint-mismatch 10']
  },
  {
    what: 'the whole log written anew and the checkpoints deleted',
    attack (files) {
      files.change(LOG, lines => rewrite([forged(forgedStart, null), ...lines.slice(1)], 1))
      files.remove(CHECKPOINTS)
    },
    found: ['checkpoint-missing -', 'unproven 1'],
    kept: ['checkpoint-mismatch 1', 'checkpoint-mismatch 1']
  },
  {
    what: 'the checkpoints deleted, the log left alone',
    attack (files) {
      files.remove(CHECKPOINTS)
    },
    found: ['checkpoint-missing -', 'unproven 1'],
    kept: ['ok', 'ok']
  },
  {
    what: 'the last checkpoints deleted, the log left alone',
    attack (files) {
      cutCheckpoints(files, 7)
    },
    found: ['ok', 'unproven 8'],
    kept: ['ok', 'ok']
  },
  {
    what: 'a checkpoint twice',
    attack (files) {
      files.change(CHECKPOINTS, checkpoints => checkpoints.toSpliced(3, 0, checkpoints[2]!))
    },
    found: ['ok', 'ok'],
    kept: ['ok', 'ok']
  },
  {
    what: 'an older checkpoint at the end',
    attack (files) {
      files.change(CHECKPOINTS, checkpoints => [...checkpoints, checkpoints[2]!])
    },
    found: ['checkpoint-mismatch 6', 'checkpoint-mismatch 6'],
    kept: ['checkpoint-mismatch 6', 'checkpoint-mismatch 6']
  },
  {
    what: 'the checkpoints of an older state, and forged records',
    attack (files, { before }) {
      files.put(CHECKPOINTS, new Files(join(before, LOG)).of(CHECKPOINTS))
      append(files, forgedEvent)
    },
    found: ['unproven 7', 'unproven 7'],
    kept: ['unproven 13', 'unproven 13']
  },
  {
    what: 'forged records with a checkpoint of another key',
    attack (files) {
      append(files, forgedEvent)
      files.change(CHECKPOINTS, checkpoints => [...checkpoints, signedBy(attacker, files.of(LOG).at(-1)!)])
    },
    found: ['checkpoint-forged 13', 'checkpoint-forged 13'],
    kept: ['checkpoint-forged 13', 'checkpoint-forged 13']
  },
  {
    what: 'more than checkpoints in the place of the checkpoints',
    attack (files) {
      appendFileSync(join(files.folder, CHECKPOINTS), 'x'.repeat(10_000))
    },
    found: ['ok', REFUSED],
    kept: ['ok', REFUSED]
  },
  {
    what: 'records of another log of the same service',
    attack (files) {
      const other = chainOf(files.of(LOG)[3]!, forgedEvent, forgedStop, forgedStart, forgedEvent)
      files.change(LOG, lines => lines.toSpliced(4, 4, ...other))
    },
    found: ['checkpoint-mismatch 6', 'checkpoint-mismatch 6'],
    kept: ['checkpoint-mismatch 6', 'checkpoint-mismatch 6']
  }
]

for (const { what, attack, found, kept } of ATTACKS) {
  t.test(`without the key: ${what}`, async t => {
    const made = await history(t)
    const { files } = made
    attack(files, made)
    const verified = async (): Promise<[string, string]> => [
      wordOf(await verifyAuditLog(files.log, { publicKey })),
      wordOf(await verifyAuditLog(files.log, { publicKey, checkpoints: made.kept }))
    ]
    t.strictSame(await verified(), [found[0], kept[0]], 'at once')
    const refused = await run(files)
    t.strictSame(refused === null ? await verified() : [refused, refused], [found[1], kept[1]], 'after another run')
    if (refused !== null) return
    await run(files)
    t.strictSame(await verified(), [found[1], kept[1]], 'and another')
  })
}

t.test('what a run could not vouch for stays named, whatever is done to the checkpoints afterwards', async t => {
  const { files } = await history(t)
  append(files, forgedEvent, forgedStop)
  await run(files)
  const result = await verifyAuditLog(files.log, { publicKey })
  const [last, found] = [files.lines()[11]!, files.lines()[13]!].map(line => JSON.parse(line) as { hash: string })
  t.match(files.lines().map(line => JSON.parse(line) as object)[14], {
    activity_name: 'audit.unproven',
    lost_events: 0,
    unproven: { after_seq: 12, after_hash: last!.hash, last_seq: 14, last_hash: found!.hash, written_seq: 0 }
  })
  t.match(result, {
    ok: false,
    kind: 'unproven',
    file: files.log,
    line: 13,
    seq: 13,
    message:
      /Records 13 to 14 are not proven.*record 15, which names.*after a signed orderly end.*with the hash [0-9a-f]{64}$/,
    signedSeq: 18,
    records: 18,
    unproven: [
      {
        firstSeq: 13,
        lastSeq: 14,
        lastHash: found!.hash,
        afterStop: true,
        removed: 0,
        first: { line: 13, seq: 13 },
        namedBy: { line: 15, seq: 15 }
      }
    ]
  })
  t.match(
    await verifyAuditLog(files.log, { publicKey, acceptUnproven: [found!.hash] }),
    { ok: true, unproven: { length: 1 } },
    'when it has been looked at'
  )
  t.match(
    await verifyAuditLog(files.log, { publicKey, acceptUnproven: [last!.hash] }),
    { ok: false },
    'that, and nothing else'
  )
  t.match(
    await verifyAuditLog(files.log),
    { ok: false, kind: 'unproven', seq: 13, signedSeq: null },
    'without a key too'
  )
  files.change(CHECKPOINTS, checkpoints => checkpoints.slice(0, 2))
  t.match(
    await verifyAuditLog(files.log, { publicKey }),
    { ok: false, seq: 5, signedSeq: 4, unproven: [{ firstSeq: 5, lastSeq: 14 }] },
    'checkpoints that are left decide where they begin'
  )
  await run(files)
  t.match(
    await verifyAuditLog(files.log, { publicKey }),
    { ok: false, seq: 5, unproven: [{ firstSeq: 5, lastSeq: 18 }] },
    'and what the next run names'
  )
})

t.test('a name that a client chose is no orderly end and no record of the log itself', async t => {
  const file = logFile(t)
  const app = await open(file, privateKey)
  for (const action of ['service.stop', 'audit.prune', 'audit.gap', 'audit.unproven']) {
    await app.audit.record(event({ action, outcome: 'denied' }))
  }
  await app.close()
  await run(new Files(file))
  t.match(await verifyAuditLog(file, { publicKey }), { ok: true, gaps: [], unproven: [] })
})

t.test('a run that was killed: what no checkpoint covers is named by the next one, and only that', async t => {
  const files = new Files(logFile(t))
  const app = await open(files.log, privateKey)
  await until(() => files.of(CHECKPOINTS).length === 1, 'the first checkpoint')
  await act(app, 3)
  const killed = files.copy(join(dirname(files.folder), 'killed'))
  await app.close()
  files.restore(killed)
  t.match(
    await verifyAuditLog(files.log, { publicKey }),
    { ok: true, signedSeq: 1, head: { seq: 4 } },
    'a tail that is not signed yet'
  )
  await run(files)
  t.match(await verifyAuditLog(files.log, { publicKey }), {
    ok: false,
    kind: 'unproven',
    line: 2,
    message: /a run that is killed/i,
    gaps: [{ seq: 5 }],
    unproven: [{ firstSeq: 2, lastSeq: 4, afterStop: false, namedBy: { seq: 5 } }]
  })
  t.match(await verifyAuditLog(files.log, { publicKey, acceptUnproven: [hashOf(files.lines()[3]!)] }), {
    ok: true,
    gaps: { length: 1 }
  })
  await run(files)
  t.match(await verifyAuditLog(files.log, { publicKey }), { unproven: { length: 1 } })
})

t.test('nothing is unproven after a kill right behind a checkpoint', async t => {
  const files = new Files(logFile(t))
  const app = await open(files.log, privateKey, { everyEvents: 1 })
  await act(app, 3)
  await until(() => files.of(CHECKPOINTS).length === 4, 'the checkpoint of the last record')
  const killed = files.copy(join(dirname(files.folder), 'killed'))
  await app.close()
  files.restore(killed)
  await run(files)
  t.match(await verifyAuditLog(files.log, { publicKey }), { ok: true, gaps: { length: 1 }, unproven: [] })
})

t.test('while the service runs: what others write is named, and what they remove too', async t => {
  const attacks: Array<[string, (files: Files) => void, object]> = [
    [
      'a record appended',
      files => {
        append(files, forgedEvent)
      },
      { seq: 2, unproven: [{ firstSeq: 2, lastSeq: 5, removed: 0, afterStop: false }] }
    ],
    [
      'records replaced',
      files => {
        files.change(LOG, lines => rewrite(lines, 2).slice(0, -1))
      },
      { seq: 2, unproven: [{ firstSeq: 2, lastSeq: 3, removed: 1 }] }
    ],
    [
      'cut off to the last checkpoint',
      files => {
        files.change(LOG, lines => lines.slice(0, 1))
      },
      {
        seq: 2,
        message: /^3 records that .* after record 1 were removed while it ran\. Someone changed/,
        unproven: [{ firstSeq: 2, lastSeq: 1, removed: 3 }]
      }
    ]
  ]
  for (const [what, attack, expected] of attacks) {
    const files = new Files(logFile(t))
    const app = await open(files.log, privateKey)
    await until(() => files.of(CHECKPOINTS).length === 1, 'the first checkpoint')
    await act(app, 3)
    attack(files)
    await t.rejects(app.audit.record(event()), { code: 'MARTY_AUDIT_UNAVAILABLE' }, what)
    await act(app, 1)
    await app.close()
    t.match(await verifyAuditLog(files.log, { publicKey }), { ok: false, kind: 'unproven', ...expected }, what)
    await run(files)
    t.match(
      await verifyAuditLog(files.log, { publicKey }),
      { ok: false, kind: 'unproven', ...expected },
      `${what}, after another run`
    )
  }
})

t.test('what the last write of a run finds is named all the same', async t => {
  const files = new Files(logFile(t))
  const app = await open(files.log, privateKey)
  await until(() => files.of(CHECKPOINTS).length === 1, 'the first checkpoint')
  await act(app, 3)
  files.change(LOG, lines => lines.slice(0, 1))
  await app.close()
  t.match(await verifyAuditLog(files.log, { publicKey }), {
    ok: false,
    kind: 'unproven',
    gaps: { length: 1 },
    unproven: [{ firstSeq: 2, lastSeq: 1, removed: 3 }]
  })
})

t.test('whole files removed or swapped', async t => {
  const files = new Files(logFile(t))
  const app = await open(files.log, privateKey, {}, { rotate: { maxBytes: 2_400 } })
  await act(app, 12)
  await app.close()
  const whole = files.copy(join(dirname(files.folder), 'whole'))
  const [first = '', second = '', third = ''] = files.names()
  const attacks: Array<[string, () => void, RegExp]> = [
    [
      'the first',
      () => {
        files.remove(first)
      },
      /^deleted/
    ],
    [
      'the second',
      () => {
        files.remove(second)
      },
      /^deleted/
    ],
    [
      'two swapped',
      () => {
        const lines = files.of(first)
        files.put(first, files.of(third))
        files.put(third, lines)
      },
      /^(reordered|edited|deleted)/
    ],
    [
      'the first, with a forged deletion',
      () => {
        files.remove(first)
        append(files, forgedPrune(files.lines()[0]!), forgedStop)
      },
      /^deleted/
    ]
  ]
  for (const [what, attack, expected] of attacks) {
    files.restore(whole)
    attack()
    t.match(wordOf(await verifyAuditLog(files.log, { publicKey })), expected, what)
    await run(files)
    t.match(wordOf(await verifyAuditLog(files.log, { publicKey })), expected, `${what}, after another run`)
  }
})

t.test('a change of the key: the new one vouches for nothing before it, the old one does', async t => {
  const files = new Files(logFile(t))
  await run(files)
  const next = generateKeyPairSync('ed25519')
  const app = await open(files.log, next.privateKey)
  await app.close()
  t.match(files.lines().map(line => JSON.parse(line) as object)[3], {
    activity_name: 'audit.unproven',
    unproven: { after_seq: 0, last_seq: 3 }
  })
  t.match(await verifyAuditLog(files.log, { publicKey: [publicKey, next.publicKey] }), {
    ok: true,
    unproven: [],
    signedSeq: 6
  })
  t.match(await verifyAuditLog(files.log, { publicKey: next.publicKey }), { ok: false, kind: 'checkpoint-forged' })
})

t.test('what was named stays named when it is deleted as too old, and so do deletions', async t => {
  mock.timers.enable({ apis: ['Date'], now: Date.now() })
  t.teardown(() => {
    mock.timers.reset()
  })
  const { files } = await history(t)
  append(files, forgedEvent, forgedEvent)
  const prune = async (): Promise<void> => {
    mock.timers.tick(20 * DAY_MS)
    const first = files.lines()[0]!
    const app = await open(
      files.log,
      privateKey,
      {},
      { rotate: { maxBytes: 1 }, retention: { maxAgeSeconds: 10 * DAY_SECONDS } }
    )
    await act(app, 2)
    await until(() => files.lines()[0] !== first, 'the oldest records to be deleted')
    await app.close()
  }
  const named = hashOf(files.lines().at(-1)!)
  await run(files)
  for (let round = 0; round < 3; round++) {
    await prune()
    t.notOk(files.lines().some(line => line.includes('forged.act')))
    t.match(
      await verifyAuditLog(files.log, { publicKey }),
      {
        ok: false,
        kind: 'unproven',
        seq: Number,
        unproven: [{ firstSeq: 13, lastSeq: 14, afterStop: false, first: { seq: Number }, namedBy: { seq: Number } }]
      },
      `round ${round}`
    )
  }
  t.match(await verifyAuditLog(files.log, { publicKey, acceptUnproven: [named] }), {
    ok: true,
    unproven: { length: 1 }
  })
  const copy = files.copy(join(dirname(files.folder), 'copy'))
  t.match(
    await verifyAuditLog(files.log),
    { ok: false, kind: 'unproven' },
    'without a key, the log is taken at its word'
  )
  t.match(
    await verifyAuditLog(files.log, { acceptUnproven: [named] }),
    { ok: true, warnings: [{ kind: 'start-unsigned', line: 1 }] },
    'with a warning'
  )

  files.remove(files.names()[0]!)
  append(files, forgedPrune(files.lines()[0]!), forgedStop)
  t.match(await verifyAuditLog(files.log, { publicKey, acceptUnproven: [named] }), {
    ok: false,
    kind: 'deleted',
    line: 1
  })
  files.restore(copy)
})

t.test('a deletion that was interrupted is proven by the record it was to end with', async t => {
  mock.timers.enable({ apis: ['Date'], now: Date.now() })
  t.teardown(() => {
    mock.timers.reset()
  })
  const files = new Files(logFile(t))
  const first = await open(files.log, privateKey, {}, { rotate: { maxBytes: 1 } })
  await act(first, 3)
  await first.close()
  const whole = files.copy(join(dirname(files.folder), 'whole'))
  // The next run renames the file in use, which holds the fifth record.
  renameSync(join(whole, LOG), join(whole, 'audit-0000000000000005.log'))
  mock.timers.tick(20 * DAY_MS)
  const second = await open(
    files.log,
    privateKey,
    {},
    { rotate: { maxBytes: 1 }, retention: { maxAgeSeconds: 10 * DAY_SECONDS } }
  )
  await until(() => {
    const [, last] = /"audit\.prune".*"last_seq":(\d+)/.exec(files.lines().join('\n')) ?? []
    return last !== undefined && seqOf(files.lines()[0]!) > Number(last)
  }, 'the oldest files to be deleted')
  await second.close()
  const gone = new Files(join(whole, LOG)).names().filter(name => !files.names().includes(name))
  t.ok(gone.length > 1)
  cpSync(join(whole, gone.at(-1)!), join(files.folder, gone.at(-1)!))
  t.match(await verifyAuditLog(files.log, { publicKey }), { ok: true }, 'the last of them is still there')
  files.change(gone.at(-1)!, ([line = '']) => [line, ...chainOf(line, forgedEvent)])
  t.match(await verifyAuditLog(files.log, { publicKey }), { ok: false })
})

t.test('a file that was given an old end is not deleted for it', async t => {
  const files = new Files(logFile(t))
  const first = await open(files.log, privateKey, {}, { rotate: { maxBytes: 1 } })
  await act(first, 3)
  await first.close()
  const name = files.names()[0]!
  for (const seq of [1, 1_000_000]) {
    files.put(name, [forged({ ...forgedEvent, time: 0 }, seq === 1 ? null : JSON.stringify({ seq, hash: 'x' }))])
    const app = await open(
      files.log,
      privateKey,
      {},
      { rotate: { maxBytes: 1 }, retention: { maxAgeSeconds: DAY_SECONDS } }
    )
    await act(app, 2)
    await app.close()
    t.ok(files.names().includes(name))
    t.notOk(files.lines().some(line => line.includes('audit.prune')))
  }
})

t.test('nothing is deleted when the record that says so cannot be signed', async t => {
  mock.timers.enable({ apis: ['Date'], now: Date.now() })
  t.teardown(() => {
    mock.timers.reset()
  })
  const files = new Files(logFile(t))
  const first = await open(files.log, privateKey, {}, { rotate: { maxBytes: 1 } })
  await act(first, 2)
  await first.close()
  mock.timers.tick(20 * DAY_MS)
  const name = files.names()[0]!
  const second = await open(files.log, privateKey, {}, { rotate: { maxBytes: 1 } })
  await second.close()
  const app = await open(
    files.log,
    privateKey,
    { file: '/dev/full' },
    { rotate: { maxBytes: 1 }, retention: { maxAgeSeconds: 10 * DAY_SECONDS } }
  )
  await until(() => files.lines().some(line => line.includes('audit.prune')), 'the record of the deletion')
  await app.close()
  t.ok(files.names().includes(name))
})

t.test('many unproven ranges that are deleted are named together', async t => {
  mock.timers.enable({ apis: ['Date'], now: Date.now() })
  t.teardown(() => {
    mock.timers.reset()
  })
  const files = new Files(logFile(t))
  await run(files)
  const range = (seq: number): object => ({
    ...forgedGap,
    unproven: { after_seq: seq - 1, after_hash: 'x', last_seq: seq, last_hash: 'x', written_seq: 0 }
  })
  append(files, ...Array.from({ length: 150 }, (_, index) => range(index + 3)), forgedStop)
  await run(files)
  mock.timers.tick(20 * DAY_MS)
  const app = await open(
    files.log,
    privateKey,
    {},
    { rotate: { maxBytes: 1 }, retention: { maxAgeSeconds: 10 * DAY_SECONDS } }
  )
  await act(app, 1)
  await until(
    () => files.lines().some(line => line.includes('audit.prune')) && !files.lines()[0]!.startsWith('{"seq":1,'),
    'the deletion'
  )
  await app.close()
  const record = files
    .lines()
    .map(
      line => JSON.parse(line) as { activity_name: string; unproven: Array<{ after_seq: number; last_seq: number }> }
    )
    .find(line => line.activity_name === 'audit.prune')!
  t.equal(record.unproven.length, 100)
  t.match(record.unproven.at(-1), { after_seq: 3, last_seq: 154 })
  t.match(await verifyAuditLog(files.log, { publicKey }), { ok: false, kind: 'unproven' })
})

const earlier = fileURLToPath(new URL('../test/fixtures/earlier-version', import.meta.url))

t.test('a log of an earlier version verifies, and goes on', async t => {
  const pem = readFileSync(join(earlier, 'audit-heads.pem'), 'utf8')
  const fixture = (name: string): Files => {
    const files = new Files(logFile(t))
    cpSync(join(earlier, name), files.folder, { recursive: true })
    return files
  }
  const pruned = fixture('pruned')
  t.match(await verifyAuditLog(pruned.log, { publicKey: pem }), {
    ok: true,
    records: 15,
    signedSeq: 19,
    gaps: [{ seq: 13 }],
    unproven: []
  })
  t.match(await verifyAuditLog(pruned.log), { ok: true, warnings: [{ kind: 'start-unsigned', seq: 5 }] })
  t.match(await verifyAuditLog(fixture('killed').log, { publicKey: pem }), {
    ok: true,
    records: 12,
    signedSeq: 10,
    unproven: []
  })

  pruned.change(CHECKPOINTS, checkpoints =>
    checkpoints.filter(checkpoint => (JSON.parse(checkpoint) as SignedCheckpoint).seq !== 12)
  )
  t.match(
    await verifyAuditLog(pruned.log, { publicKey: pem }),
    { ok: false, kind: 'unproven', seq: 11, unproven: [{ firstSeq: 11, lastSeq: 12, namedBy: { seq: 13 } }] },
    'its marker of a kill did not say what was unsigned; the checkpoints do'
  )

  const goesOn = fixture('pruned')
  await run(goesOn)
  t.match(await verifyAuditLog(goesOn.log, { publicKey: [createPublicKey(pem), publicKey] }), {
    ok: true,
    signedSeq: 23,
    unproven: []
  })
})

type Move = readonly [string, number, number]

/** What somebody without the key may do to the files, one move at a time. */
const MOVES: Readonly<Record<string, (files: Files, one: number, two: number, copies: readonly string[]) => void>> = {
  cutEnd: (files, one) => {
    files.change(pick(files.names(), one), lines => lines.slice(0, -1 - (one % 4)))
  },
  cutStart: (files, one) => {
    files.change(pick(files.names(), one), lines => lines.slice(1 + (one % 4)))
  },
  cutMiddle: (files, one, two) => {
    files.change(pick(files.names(), one), lines => lines.toSpliced(two % (lines.length + 1), 1 + (one % 3)))
  },
  removeFile: (files, one) => {
    files.remove(pick(files.names(), one))
  },
  swapFiles: (files, one, two) => {
    const [from, to] = [pick(files.names(), one), pick(files.names(), two)]
    const lines = files.of(from)
    files.put(from, files.of(to))
    files.put(to, lines)
  },
  rewrite: (files, one, two) => {
    files.change(pick(files.names(), one), lines => {
      const at = 1 + (two % (lines.length + 1))
      return lines.length < 2 ? lines : rewrite(lines, Math.min(at, lines.length))
    })
  },
  append: (files, one, two) => {
    const last = files.lines().at(-1)
    if (last === undefined) return
    const kinds = [forgedEvent, forgedStart, forgedStop, forgedGap, forgedPrune(files.lines()[0]!)]
    files.change(LOG, lines => [...lines, ...chainOf(last, pick(kinds, one), pick(kinds, two))])
  },
  pruneAndStop: (files, one) => {
    files.change(pick(files.names(), 0), lines => lines.slice(1 + (one % 3)))
    const lines = files.lines()
    if (lines.length > 0) {
      files.change(LOG, current => [...current, ...chainOf(lines.at(-1)!, forgedPrune(lines[0]!), forgedStop)])
    }
  },
  duplicate: (files, one, two) => {
    files.change(pick(files.names(), one), lines =>
      lines.length === 0 ? lines : lines.toSpliced(two % lines.length, 0, pick(lines, one))
    )
  },
  removeCheckpoints: files => {
    files.remove(CHECKPOINTS)
  },
  cutCheckpoints: (files, one) => {
    files.change(CHECKPOINTS, checkpoints => checkpoints.slice(0, -1 - (one % 3)))
  },
  dropCheckpoint: (files, one) => {
    files.change(CHECKPOINTS, checkpoints => checkpoints.toSpliced(one % (checkpoints.length + 1), 1))
  },
  replayCheckpoint: (files, one, two) => {
    files.change(CHECKPOINTS, checkpoints =>
      checkpoints.length === 0
        ? checkpoints
        : checkpoints.toSpliced(two % (checkpoints.length + 1), 0, pick(checkpoints, one))
    )
  },
  forgeCheckpoint: files => {
    const last = files.lines().at(-1)
    if (last !== undefined) files.change(CHECKPOINTS, checkpoints => [...checkpoints, signedBy(attacker, last)])
  },
  setBack: (files, one, _, copies) => {
    if (copies.length > 0) files.restore(pick(copies, one))
  },
  setBackCheckpoints: (files, one, _, copies) => {
    if (copies.length > 0) files.put(CHECKPOINTS, new Files(join(pick(copies, one), LOG)).of(CHECKPOINTS))
  },
  setBackLog: (files, one, _, copies) => {
    if (copies.length === 0) return
    const checkpoints = files.of(CHECKPOINTS)
    files.restore(pick(copies, one))
    files.put(CHECKPOINTS, checkpoints)
  }
}

/** The one at a place, counted round; the name of the current file when there is none. */
const pick = <T>(list: readonly T[], index: number): T => list[index % Math.max(1, list.length)] ?? (LOG as T)

for (const rotate of [false, { maxBytes: 2_400 }] as const) {
  t.test(
    'whatever is done without the key, what is said to be proven was written by the service ' +
      `(${rotate === false ? 'one file' : 'several files'})`,
    async t => {
      const outcomes = new Map<string, number>()
      const scenario = async (moves: readonly Move[]): Promise<void> => {
        const file = logFile(t)
        const files = new Files(file)
        const genuine = new Set<string>()
        const copies: string[] = []
        const kept: SignedCheckpoint[] = []
        const honest = async (events: number, isKilled: boolean): Promise<void> => {
          const known = new Set(copies.length === 0 ? [] : files.lines())
          const app = await open(
            file,
            privateKey,
            {
              everyEvents: 4,
              onCheckpoint (checkpoint) {
                kept.push(checkpoint)
              }
            },
            { rotate }
          ).catch(() => null)
          if (app === null) return
          await act(app, events).catch(() => {})
          const killed = files.copy(join(dirname(files.folder), `copy-${copies.length}`))
          await app.close()
          for (const line of files.lines()) if (!known.has(line)) genuine.add(line)
          if (isKilled) {
            kept.splice(
              0,
              kept.length,
              ...kept.filter(
                checkpoint =>
                  files.of(CHECKPOINTS).length > 0 &&
                  new Files(join(killed, LOG)).of(CHECKPOINTS).includes(JSON.stringify(checkpoint))
              )
            )
            files.restore(killed)
          }
          copies.push(files.copy(join(dirname(files.folder), `copy-${copies.length}`)))
        }
        await honest(3, false)
        for (const [name, one, two] of moves) {
          if (name === 'run' || name === 'kill') await honest(1 + (one % 6), name === 'kill')
          else MOVES[name]!(files, one, two, copies)
        }
        await honest(2, false)
        if (files.names().length === 0) return
        for (const checkpoints of [[], kept]) {
          const result = await verifyAuditLog(file, { publicKey, checkpoints })
          const outcome = `${checkpoints.length > 0 ? 'kept' : 'beside'}: ${result.ok ? 'ok' : result.kind}`
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
          if (!result.ok && result.kind !== 'unproven') continue
          const signedSeq = result.signedSeq ?? 0
          const lines = files.lines()
          if (seqOf(lines[0]!) !== 1) throw new Error(`the start is gone and ${wordOf(result)}`)
          const isNamed = (seq: number): boolean =>
            seq > signedSeq || result.unproven.some(({ firstSeq, lastSeq }) => seq >= firstSeq && seq <= lastSeq)
          const smuggled = lines.find(line => !genuine.has(line) && !isNamed(seqOf(line)))
          if (smuggled !== undefined) throw new Error(`${smuggled} is said to be proven: ${JSON.stringify(result)}`)
          const missing = checkpoints.find(
            ({ seq, hash }) => !lines.some(line => line.includes(`"seq":${seq},`) && line.endsWith(`"hash":"${hash}"}`))
          )
          if (missing !== undefined) {
            throw new Error(`record ${missing.seq} was kept elsewhere, is gone, and ${wordOf(result)}`)
          }
        }
        rmSync(dirname(files.folder), { recursive: true, force: true })
      }
      const move = fc.tuple(fc.constantFrom('run', 'run', 'kill', ...Object.keys(MOVES)), fc.nat(20), fc.nat(20))
      await fc.assert(fc.asyncProperty(fc.array(move, { minLength: 1, maxLength: 8 }), scenario), {
        numRuns: 60,
        endOnFailure: false
      })
      t.comment(
        [...outcomes]
          .map(([name, count]) => `${name} ${count}`)
          .sort()
          .join(', ')
      )
      t.ok(
        [...outcomes.keys()].some(name => name.endsWith('unproven')) &&
          [...outcomes.keys()].some(name => name.endsWith('ok')),
        'the moves reach what matters'
      )
    }
  )
}
