import { createPublicKey, type KeyObject } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { checkpointsFileOf, keyIdOf } from '../checkpoints/checkpoint.js'
import { checkpointsIn, checkpointsOf, type PublicKeys } from '../checkpoints/checkpoint-verifier.js'
import { AuditOptionInvalid } from '../errors.js'
import { logFiles } from '../sinks/log-files.js'
import { LogVerifier } from './log-verifier.js'
import type { AuditVerification, VerifyOptions } from './verification.js'

/** The log may be written, rotated and pruned while it is read, so a fault is confirmed by reading again. */
const MAX_ATTEMPTS = 5
/** A run that has just started signs its first record within this time. */
const SIGNING_MS = 250

/**
 * Verifies all files of a log in the order of its chain, in constant memory, and
 * returns the first bad record. Signed checkpoints detect what the chain alone cannot: a log
 * that an attacker without the key has truncated, rolled back or rewritten.
 *
 * @throws the error of the file system; `ENOENT` when there is no log
 * @example
 * const result = await verifyAuditLog('data/audit.log', { publicKey: readFileSync('audit-signing.pem', 'utf8') })
 * if (!result.ok) console.error(`${result.file}:${result.line}: ${result.kind}: ${result.message}`)
 */
export async function verifyAuditLog (file: string, options: VerifyOptions = {}): Promise<AuditVerification> {
  const checkpointsFile = options.checkpointsFile ?? checkpointsFileOf(file)
  for (let attempt = 1; ; attempt++) {
    const before = await snapshotOf(file, checkpointsFile)
    const verified = verifyOnce(file, before.files, checkpointsFile, options)
    const result = await verified.catch((error: unknown) => error as Error)
    // A real fault is still there when the log is read again; the others go away once nothing changes meanwhile.
    if (attempt < MAX_ATTEMPTS && (result instanceof Error || !result.ok)) {
      if (attempt === 1 && 'unproven' in result && result.unproven.some(({ namedBy }) => namedBy === null)) {
        await delay(SIGNING_MS)
      }
      if ((await snapshotOf(file, checkpointsFile)).mark !== before.mark) continue
    }
    if (result instanceof Error) throw result
    return result
  }
}

/** The files of a log, and a mark that changes when any of them does. */
async function snapshotOf (
  file: string,
  checkpointsFile: string
): Promise<{ readonly files: readonly string[], readonly mark: string }> {
  const files = (await logFiles(file)).map(({ path }) => path)
  const paths = [...files, checkpointsFile]
  const sizes = await Promise.all(paths.map(async path => (await stat(path).catch(() => null))?.size))
  return { files, mark: [...files, ...sizes].join('\n') }
}

async function verifyOnce (
  file: string,
  files: readonly string[],
  checkpointsFile: string,
  { publicKey, checkpoints = [], acceptUnproven = [] }: VerifyOptions
): Promise<AuditVerification> {
  if (files.length === 0) throw Object.assign(new Error(`There is no audit log "${file}"`), { code: 'ENOENT' })
  const sources = [() => checkpointsIn(checkpointsFile), () => checkpointsOf(checkpoints)]
  const keys = publicKeysOf(publicKey)
  return await new LogVerifier({ file, files, checkpointsFile, sources, keys, acceptUnproven }).verify()
}

function publicKeysOf (publicKey: VerifyOptions['publicKey'] = []): PublicKeys {
  const keys = [publicKey].flat() as ReadonlyArray<KeyObject | string>
  return new Map(keys.map(key => {
    const object = typeof key === 'string' || key.type === 'private' ? createPublicKey(key as KeyObject) : key
    if (object.asymmetricKeyType !== 'ed25519') {
      throw new AuditOptionInvalid('audit option "publicKey" must be an Ed25519 public key')
    }
    return [keyIdOf(object), object]
  }))
}
