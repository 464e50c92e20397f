import { closeSync, fstatSync, openSync, readFileSync, statSync, type BigIntStats } from 'node:fs'
import { resolve } from 'node:path'
import type { JsonWebKey } from 'node:crypto'
import { decodeBase64url } from './base64url.js'
import { SigningKeysInvalid } from '../errors.js'
import { JWT_ALGORITHMS, type JwtAlgorithmName } from './algorithms.js'
import { createSigningKey, type JwtKeyOptions, type SigningKey, type SigningKeys } from './keys.js'

/** One key in the file. Times are milliseconds since the epoch. */
export interface SigningKeyRecord {
  readonly kid: string
  readonly algorithm: JwtAlgorithmName
  /** The bytes of a symmetric key, in base64url. */
  readonly secret?: string
  /** An asymmetric key. */
  readonly privateKey?: JsonWebKey
  readonly createdAt: number
  /**
   * When the key starts to sign. It verifies before that too, because another process's clock may be
   * ahead.
   */
  readonly activatesAt: number
  /** When the key stops verifying; null while no newer key replaces it. */
  readonly expiresAt: number | null
}

export interface SigningKeysOptions {
  /**
   * Called once when a changed file cannot be used and the last good keys stay in use.
   * @default a process warning
   */
  readonly onProblem?: (error: Error) => void
}

interface TimedKey {
  readonly record: SigningKeyRecord
  readonly key: SigningKey
}

/** The maximum age of the cached file; another process may have changed it since. Milliseconds. */
const RECHECK_MS = 500
export const MAX_KEYS = 64

/**
 * Opens a JSON file of keys that `rotateSigningKeys` writes. The newest active key signs; every key
 * that has not expired verifies. A change takes effect within half a second. If a changed file cannot
 * be used, `onProblem` is called and the last good keys stay in use.
 *
 * @throws `MARTY_AUTH_SIGNING_KEYS_INVALID` with the reason and the path, for a file that is missing,
 * damaged, readable by other users, or without an active key
 */
export function openSigningKeys (
  file: string,
  {
    onProblem = error => {
      process.emitWarning(error)
    }
  }: SigningKeysOptions = {}
): SigningKeys {
  const path = resolve(file)
  let stamp = stampOf(path)
  let keys = load(path)
  let checkedAt = Date.now()
  const kind = JWT_ALGORITHMS[[...keys.values()][0]!.key.alg].kind

  const current = (): ReadonlyMap<string, TimedKey> => {
    const now = Date.now()
    if (now - checkedAt >= RECHECK_MS || now < checkedAt) {
      checkedAt = now
      const changed = stampOf(path)
      if (changed !== stamp) {
        stamp = changed
        try {
          const next = load(path)
          if ([...next.values()].some(({ key }) => JWT_ALGORITHMS[key.alg].kind !== kind)) {
            throw invalid(path, `now contains keys that are not ${kind}; restart the service to change the kind`)
          }
          keys = next
        } catch (error) {
          onProblem(error as Error)
        }
      }
    }
    return keys
  }
  const signing = (): SigningKey => {
    const newest = newestActive(current(), Date.now())
    // Without the path, because this error is thrown while requests are served.
    if (newest === null) throw new SigningKeysInvalid('No signing key is active; rotate the signing keys')
    return newest.key
  }

  if (newestActive(keys, Date.now()) === null) throw invalid(path, 'contains no key that is active now')
  return Object.freeze({
    kind,
    signing,
    find (kid: string) {
      const found = current().get(kid)
      return found !== undefined && !isExpired(found.record, Date.now()) ? found.key : undefined
    },
    all: () => [...current().values()].filter(({ record }) => !isExpired(record, Date.now())).map(({ key }) => key)
  })
}

/**
 * Reads and checks the records of a file; empty when it does not exist. Throws
 * `MARTY_AUTH_SIGNING_KEYS_INVALID`.
 */
export function readSigningKeyRecords (path: string): SigningKeyRecord[] {
  return stampOf(path) === '' ? [] : [...load(path).values()].map(({ record }) => record)
}

export function isExpired ({ expiresAt }: SigningKeyRecord, now: number): boolean {
  return expiresAt !== null && expiresAt <= now
}

export function invalid (path: string, what: string, cause?: unknown): Error {
  return new SigningKeysInvalid({ message: `The signing key file ${path} ${what}`, cause })
}

function newestActive (keys: ReadonlyMap<string, TimedKey>, now: number): TimedKey | null {
  let newest: TimedKey | null = null
  for (const candidate of keys.values()) {
    const { activatesAt, createdAt } = candidate.record
    if (activatesAt <= now && !isExpired(candidate.record, now) && createdAt >= (newest?.record.createdAt ?? 0)) {
      newest = candidate
    }
  }
  return newest
}

/** Returns a string that changes when the file does; empty when it does not exist. */
function stampOf (path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true })
  return stat === undefined ? '' : `${stat.ino}:${stat.ctimeNs}:${stat.size}`
}

function load (path: string): ReadonlyMap<string, TimedKey> {
  const { text, stat } = readWhole(path)
  if ((stat.mode & 0o077n) !== 0n && process.platform !== 'win32') {
    throw invalid(path, `can be read by users other than its owner; run: chmod 600 ${path}`)
  }
  let document: { version?: unknown, keys?: unknown } | null
  try {
    document = JSON.parse(text) as typeof document
  } catch {
    // Do not keep the parser's message: it quotes the file.
    throw invalid(path, 'is damaged: it is not JSON')
  }
  if (document?.version !== 1 || !Array.isArray(document.keys)) {
    throw invalid(path, 'is damaged or of another version: expected { "version": 1, "keys": [...] }')
  }
  if (document.keys.length < 1 || document.keys.length > MAX_KEYS) {
    throw invalid(path, `contains ${document.keys.length} keys: 1 to ${MAX_KEYS} are expected`)
  }
  const keys = new Map<string, TimedKey>()
  for (const [index, record] of (document.keys as unknown[]).entries()) {
    const timed = readRecord(record, (member, what) =>
      invalid(path, `is damaged: keys[${index}]${member === '' ? '' : `.${member}`} ${what}`)
    )
    if (keys.has(timed.key.kid)) throw invalid(path, `is damaged: keys[${index}].kid is used by two keys`)
    keys.set(timed.key.kid, timed)
  }
  if (new Set([...keys.values()].map(({ key }) => JWT_ALGORITHMS[key.alg].kind)).size > 1) {
    throw invalid(path, 'mixes symmetric and asymmetric keys')
  }
  return keys
}

function readWhole (path: string): { text: string, stat: BigIntStats } {
  try {
    // Read the metadata from the descriptor: the path may refer to another file by now.
    const descriptor = openSync(path, 'r')
    try {
      return { text: readFileSync(descriptor, 'utf8'), stat: fstatSync(descriptor, { bigint: true }) }
    } finally {
      closeSync(descriptor)
    }
  } catch (cause) {
    throw invalid(path, `cannot be read (${(cause as NodeJS.ErrnoException).code ?? 'unknown error'})`, cause)
  }
}

function readRecord (value: unknown, refuse: (member: string, what: string) => Error): TimedKey {
  if (typeof value !== 'object' || value === null) throw refuse('', 'is not a key')
  const { kid, algorithm, secret, privateKey, createdAt, activatesAt, expiresAt } = value as Partial<
    Record<keyof SigningKeyRecord, unknown>
  >
  for (const [member, time] of Object.entries({
    createdAt,
    activatesAt,
    ...(expiresAt === null ? {} : { expiresAt })
  })) {
    if (!Number.isSafeInteger(time) || (time as number) < 0) {
      throw refuse(member, 'is not a time in milliseconds since the epoch')
    }
  }
  const bytes = typeof secret === 'string' ? decodeBase64url(secret) : undefined
  if (bytes === null) throw refuse('secret', 'is not base64url')
  return {
    record: value as SigningKeyRecord,
    key: createSigningKey({ kid, algorithm, privateKey, secret: bytes } as JwtKeyOptions, refuse)
  }
}
