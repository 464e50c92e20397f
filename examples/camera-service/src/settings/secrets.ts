import {
  createHmac, createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, type KeyObject
} from 'node:crypto'
import { chmod, link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** The service's own secrets. */
export interface Secrets {
  /** HS256 key that signs the tokens. */
  readonly jwt: Buffer
  /** Key with which API keys are hashed before they are stored. */
  readonly apiKeyPepper: Buffer
  /** Key from which refresh tokens are derived. */
  readonly refresh: Buffer
  /** Ed25519 key that signs checkpoints of the audit log. The public key beside it is for `marty audit verify`. */
  readonly auditKey: KeyObject
}

const BYTES = 48

/**
 * Reads the secrets in a data folder and creates missing ones. Two processes that start at the same time get the same
 * secrets. Files have mode 0600, the folder 0700.
 */
export async function loadSecrets (dataDir: string, configuredJwt: string): Promise<Secrets> {
  const folder = join(dataDir, 'secrets')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await chmod(folder, 0o700)
  return {
    auditKey: await auditKey(folder),
    jwt: configuredJwt !== '' ? Buffer.from(configuredJwt) : await secret(join(folder, 'jwt.key')),
    apiKeyPepper: await secret(join(folder, 'api-key-pepper.key')),
    // Instances that share their token key also share this key.
    refresh:
      configuredJwt !== ''
        ? createHmac('sha256', configuredJwt).update('refresh tokens').digest()
        : await secret(join(folder, 'refresh.key'))
  }
}

/** The key that signs the checkpoints of the audit log. Existing services have these files, so their names stay. */
async function auditKey (folder: string): Promise<KeyObject> {
  const pem = await kept(
    join(folder, 'audit-heads.key.pem'),
    () => generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  )
  const key = createPrivateKey(pem)
  await kept(
    join(folder, 'audit-heads.pub.pem'),
    () => createPublicKey(key).export({ type: 'spki', format: 'pem' }) as string
  )
  return key
}

async function secret (file: string): Promise<Buffer> {
  const bytes = Buffer.from(
    (await kept(file, () => randomBytes(BYTES).toString('base64url') + '\n')).trim(),
    'base64url'
  )
  if (bytes.length < 32) {
    throw new Error(
      `${file} is damaged: delete it, and the next start creates a new secret. What was signed with the old one is ` +
        'no longer valid.'
    )
  }
  return bytes
}

/** Returns the content of a file; creates the file if it does not exist. */
async function kept (file: string, make: () => string): Promise<string> {
  const existing = await read(file)
  if (existing !== null) return existing
  const fresh = `${file}.${randomBytes(6).toString('hex')}`
  try {
    await writeFile(fresh, make(), { mode: 0o600, flag: 'wx', flush: true })
    // Unlike rename, link does not replace a file that another process has created in the meantime.
    await link(fresh, file).catch((error: NodeJS.ErrnoException) => { if (error.code !== 'EEXIST') throw error })
  } finally {
    await rm(fresh, { force: true })
  }
  const made = await read(file)
  if (made === null) throw new Error(`${file} could not be created`)
  return made
}

async function read (file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
