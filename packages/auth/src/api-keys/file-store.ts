import { randomBytes } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { KEY_ID } from './format.js'
import { isApiKeyRecord, type ApiKeyRecord, type ApiKeyStore } from './store.js'
import { ApiKeyStoreInvalid } from '../errors.js'
import { withFileLock } from '../file-lock.js'

interface Snapshot {
  /** Identity of the file that was read; null when it does not exist yet. */
  readonly stamp: string | null
  readonly records: ReadonlyMap<string, ApiKeyRecord>
}

/** The maximum age of the cached file; another process may have changed it since. Milliseconds. */
const RECHECK_MS = 500

/**
 * Stores API keys in one JSON file, mode 0600. A change replaces the whole file atomically and is on
 * disk when the promise settles. Writers, of this process and of others, take turns. Changes by other
 * processes are seen within half a second. A damaged file, or one that users other than its owner and
 * group can read, is an error (`MARTY_AUTH_KEY_STORE_INVALID`), never an empty store. The last-used
 * times are in a second file, `.used`, which may be lost without harm.
 */
export function openFileApiKeyStore (file: string): ApiKeyStore {
  const path = resolve(file)
  let snapshot = read(path)
  let checkedAt = Date.now()
  let turn: Promise<unknown> = Promise.resolve()

  const current = (): ReadonlyMap<string, ApiKeyRecord> => {
    const now = Date.now()
    if (now - checkedAt >= RECHECK_MS || now < checkedAt) {
      if (stampOf(path) !== snapshot.stamp) snapshot = read(path)
      checkedAt = now
    }
    return snapshot.records
  }

  const change = async (edit: (records: Map<string, ApiKeyRecord>) => boolean): Promise<boolean> => {
    const mine = turn.then(async () => await locked(path, async assertHeld => {
      snapshot = read(path)
      checkedAt = Date.now()
      const records = new Map(snapshot.records)
      // After a conflict with another process, the view shows that process's change.
      if (!edit(records)) return false
      await write(path, { version: 1, keys: [...records.values()] }, assertHeld)
      snapshot = read(path)
      checkedAt = Date.now()
      return true
    }))
    turn = mine.catch(() => {})
    return await mine
  }

  return {
    get: keyId => current().get(keyId) ?? null,
    list: async () => [...current().values()],
    put: async (record, expectedVersion) => await change(records => {
      if ((records.get(record.keyId)?.version ?? null) !== expectedVersion) return false
      records.set(record.keyId, record)
      return true
    }),
    delete: async keyId => await change(records => records.delete(keyId)),
    async touch (used) {
      const mine = turn.then(async () => {
        await locked(path, async assertHeld => {
          const known = current()
          const times = new Map([...await readUsed(path), ...used])
          await write(`${path}.used`, Object.fromEntries([...times].filter(([keyId]) => known.has(keyId))), assertHeld)
        })
      })
      turn = mine.catch(() => {})
      await mine
    },
    lastUsed: async () => await readUsed(path)
  }
}

function stampOf (path: string): string | null {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true })
  return stat === undefined ? null : `${stat.ino}:${stat.mtimeNs}:${stat.size}`
}

function read (path: string): Snapshot {
  let text: string
  let stamp: string | null
  try {
    // Take the stamp before reading: if the file is replaced in between, the next check reads it again.
    stamp = stampOf(path)
    if (stamp === null) return { stamp, records: new Map() }
    if ((statSync(path).mode & 0o027) !== 0) {
      throw new ApiKeyStoreInvalid(
        'The API key file may be read by others, or written by its group: chmod 600 it, and think of its keys as known'
      )
    }
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    if (cause instanceof ApiKeyStoreInvalid) throw cause
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return { stamp: null, records: new Map() }
    throw new ApiKeyStoreInvalid({
      message: `The API key file cannot be read (${(cause as NodeJS.ErrnoException).code ?? 'unknown error'})`,
      cause
    })
  }
  let document: { version?: unknown, keys?: unknown }
  try {
    document = JSON.parse(text) as typeof document
  } catch (cause) {
    // Do not keep the parser's message: it quotes the file.
    throw new ApiKeyStoreInvalid(
      'The API key file is damaged: it is not JSON. Restore it, or remove it to begin with no keys'
    )
  }
  if (document?.version !== 1 || !Array.isArray(document.keys)) {
    throw new ApiKeyStoreInvalid(
      'The API key file is damaged or of another version: expected { "version": 1, "keys": [...] }'
    )
  }
  const records = new Map<string, ApiKeyRecord>()
  for (const [index, record] of document.keys.entries()) {
    if (!isApiKeyRecord(record) || records.has(record.keyId)) {
      throw new ApiKeyStoreInvalid(`The API key file is damaged: keys[${index}] is not a valid key, or is used by two keys`)
    }
    records.set(record.keyId, Object.freeze(record))
  }
  return { stamp, records }
}

/** Lets one writer of any process run at a time. */
async function locked<T> (path: string, work: (assertHeld: () => void) => Promise<T>): Promise<T> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    return await withFileLock(`${path}.lock`, work)
  } catch (cause) {
    if (cause instanceof ApiKeyStoreInvalid) throw cause
    const { code } = cause as NodeJS.ErrnoException
    throw new ApiKeyStoreInvalid({
      message: 'The API key file cannot be written ' +
        `(${code === 'EEXIST' ? 'another process holds its lock' : (code ?? 'unknown error')})`,
      cause
    })
  }
}

async function write (path: string, document: object, assertHeld: () => void): Promise<void> {
  const folder = dirname(path)
  const begin = `.${basename(path)}.`
  // Remove temporary files that a killed process left behind. No other process writes now.
  for (const name of await readdir(folder)) {
    if (name.startsWith(begin) && name.endsWith('.tmp')) await rm(join(folder, name), { force: true })
  }
  const temporary = join(folder, `${begin}${randomBytes(6).toString('hex')}.tmp`)
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(JSON.stringify(document, null, 2) + '\n')
      await file.sync()
    } finally {
      await file.close()
    }
    assertHeld()
    await rename(temporary, path)
    // A rename is durable only after its directory has been synced.
    const directory = await open(folder, 'r')
    try {
      await directory.sync()
    } finally {
      await directory.close()
    }
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {})
    throw cause
  }
}

/** Reads the last-used times. An unreadable file counts as empty, because nothing depends on it. */
async function readUsed (path: string): Promise<ReadonlyMap<string, number>> {
  try {
    const document = JSON.parse(await readFile(`${path}.used`, 'utf8')) as Record<string, unknown>
    return new Map(
      Object.entries(document).filter(
        (pair): pair is [string, number] => KEY_ID.test(pair[0]) && Number.isSafeInteger(pair[1])
      )
    )
  } catch {
    return new Map()
  }
}
