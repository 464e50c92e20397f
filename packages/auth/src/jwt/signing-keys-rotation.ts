import { checkOptions, type OptionTable } from '@marty/core'
import { generateKeyPair, randomBytes } from 'node:crypto'
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { withFileLock } from '../file-lock.js'
import { SCOPE } from '../option-scope.js'
import { JWT_ALGORITHMS, type JwtAlgorithmName } from './algorithms.js'
import { invalid, isExpired, MAX_KEYS, readSigningKeyRecords, type SigningKeyRecord } from './signing-keys-file.js'

export interface SigningKeyRotation {
  readonly algorithm: JwtAlgorithmName
  /**
   * How long the new key is published before it signs: at least as long as other services need to
   * notice it. Seconds, at most 30 days.
   * @default 60
   */
  readonly activatesInSeconds?: number
  /**
   * How long older keys verify after that: at least the maximum lifetime of a token. Seconds, at most a
   * year.
   * @default 86400
   */
  readonly overlapSeconds?: number
}

/** The key that was added. Times are milliseconds since the epoch. */
export interface RotatedSigningKey {
  readonly kid: string
  readonly algorithm: JwtAlgorithmName
  readonly activatesAt: number
  /** The expired keys that were removed. */
  readonly dropped: readonly string[]
}

const DAY = 86_400

const OPTIONS: OptionTable<SigningKeyRotation> = {
  algorithm: {
    kind: 'choice',
    choices: Object.keys(JWT_ALGORITHMS) as JwtAlgorithmName[],
    about: 'Algorithm of the new key.'
  },
  activatesInSeconds: {
    kind: 'integer',
    min: 0,
    max: 30 * DAY,
    default: 60,
    about: 'How long the new key is published before it signs.'
  },
  overlapSeconds: {
    kind: 'integer',
    min: 0,
    max: 365 * DAY,
    default: DAY,
    about: 'How long older keys verify after that.'
  }
}

/**
 * Adds a key to a file for `openSigningKeys`, or creates the file (mode 0600). Older keys expire
 * `overlapSeconds` after the new one activates; expired keys are removed. When no key is active, the
 * new one activates immediately. The file is replaced atomically and is on disk when the promise settles.
 * Concurrent rotations by several processes run one after another.
 *
 * @throws `MARTY_AUTH_SIGNING_KEYS_INVALID` for a file that is damaged, of the other kind (symmetric or
 * asymmetric), or cannot be written; `MARTY_AUTH_OPT_INVALID` naming the field
 */
export async function rotateSigningKeys (file: string, rotation: SigningKeyRotation): Promise<RotatedSigningKey> {
  const path = resolve(file)
  const checked = checkOptions(OPTIONS, rotation, { ...SCOPE, subject: 'rotateSigningKeys' })
  const { algorithm } = checked
  const activatesIn = checked.activatesInSeconds * 1000
  const overlap = checked.overlapSeconds * 1000
  // Generate the key before taking the lock: RSA takes a while.
  const material = await generate(algorithm)

  const rotate = async (assertHeld: () => void): Promise<RotatedSigningKey> => {
    const now = Date.now()
    const older = readSigningKeyRecords(path)
    if (older.some(record => JWT_ALGORITHMS[record.algorithm].kind !== JWT_ALGORITHMS[algorithm].kind)) {
      throw invalid(path, `contains keys of another kind than ${algorithm}: symmetric and asymmetric keys do not mix`)
    }
    const isFirst = !older.some(record => record.activatesAt <= now && !isExpired(record, now))
    const activatesAt = isFirst ? now : now + activatesIn
    const record: SigningKeyRecord = {
      kid: `${new Date(now).toISOString().slice(0, 10)}-${randomBytes(6).toString('hex')}`,
      algorithm,
      ...material,
      // Always later than all others, whatever the clock says, because the newest key signs.
      createdAt: Math.max(now, ...older.map(({ createdAt }) => createdAt + 1)),
      activatesAt,
      expiresAt: null
    }
    const kept = older
      .map(each => ({ ...each, expiresAt: each.expiresAt ?? activatesAt + overlap }))
      .filter(each => !isExpired(each, now))
    if (kept.length >= MAX_KEYS) {
      throw invalid(
        path,
        `contains ${kept.length} keys that have not expired; wait for them, or rotate with a shorter overlap`
      )
    }
    await replaceFile(path, JSON.stringify({ version: 1, keys: [...kept, record] }, null, 2) + '\n', assertHeld)
    return Object.freeze({
      kid: record.kid,
      algorithm,
      activatesAt,
      dropped: older.map(({ kid }) => kid).filter(kid => !kept.some(each => each.kid === kid))
    })
  }

  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    return await withFileLock(`${path}.lock`, rotate)
  } catch (cause) {
    if (cause instanceof Error && 'statusCode' in cause) throw cause
    throw invalid(path, `cannot be written (${(cause as NodeJS.ErrnoException).code ?? 'unknown error'})`, cause)
  }
}

async function generate (algorithm: JwtAlgorithmName): Promise<Pick<SigningKeyRecord, 'secret' | 'privateKey'>> {
  const make = promisify(generateKeyPair)
  switch (algorithm) {
    case 'HS256':
      return { secret: randomBytes(32).toString('base64url') }
    case 'ES256':
      return { privateKey: (await make('ec', { namedCurve: 'P-256' })).privateKey.export({ format: 'jwk' }) }
    case 'EdDSA':
      return { privateKey: (await make('ed25519')).privateKey.export({ format: 'jwk' }) }
    default:
      return { privateKey: (await make('rsa', { modulusLength: 3072 })).privateKey.export({ format: 'jwk' }) }
  }
}

/** Replaces the file. The caller must hold the lock. */
async function replaceFile (path: string, text: string, assertHeld: () => void): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.tmp`)
  // Remove temporary files that a killed process left behind, including those of the lock.
  for (const name of await readdir(dirname(path))) {
    if (name.startsWith(`.${basename(path)}.`) && name.endsWith('.tmp')) {
      await rm(join(dirname(path), name), { force: true })
    }
  }
  const file = await open(temporary, 'wx', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  assertHeld()
  await rename(temporary, path)
  // A rename is durable only after its directory has been synced.
  const folder = await open(dirname(path), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
