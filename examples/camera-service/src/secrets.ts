import { createHmac, randomBytes } from 'node:crypto'
import { chmod, link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** The service's own secrets. */
export interface Secrets {
  /** HS256 key of the tokens. */
  readonly jwt: Buffer
  /** Key with which API keys are hashed before they are stored. */
  readonly apiKeyPepper: Buffer
  /** Key from which refresh tokens are derived. */
  readonly refresh: Buffer
}

const BYTES = 48

/**
 * Reads the secrets of a data folder, making what is missing. Whoever starts first makes them; two that start
 * at once get the same ones. Files have mode 0600, the folder 0700.
 */
export async function loadSecrets (dataDir: string, configuredJwt: string): Promise<Secrets> {
  const folder = join(dataDir, 'secrets')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await chmod(folder, 0o700)
  return {
    jwt: configuredJwt !== '' ? Buffer.from(configuredJwt) : await secret(join(folder, 'jwt.key')),
    apiKeyPepper: await secret(join(folder, 'api-key-pepper.key')),
    // Instances that share their tokens share this too.
    refresh: configuredJwt !== '' ? createHmac('sha256', configuredJwt).update('refresh tokens').digest() : await secret(join(folder, 'refresh.key'))
  }
}

async function secret (file: string): Promise<Buffer> {
  const existing = await read(file)
  if (existing !== null) return existing
  const fresh = `${file}.${randomBytes(6).toString('hex')}`
  try {
    await writeFile(fresh, randomBytes(BYTES).toString('base64url') + '\n', { mode: 0o600, flag: 'wx', flush: true })
    // link, unlike rename, does not replace what another process has put there in the meantime.
    await link(fresh, file).catch((error: NodeJS.ErrnoException) => { if (error.code !== 'EEXIST') throw error })
  } finally {
    await rm(fresh, { force: true })
  }
  const made = await read(file)
  if (made === null) throw new Error(`${file} could not be created`)
  return made
}

async function read (file: string): Promise<Buffer | null> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  const bytes = Buffer.from(text.trim(), 'base64url')
  if (bytes.length < 32) throw new Error(`${file} is damaged: remove it to have a new secret made; tokens made with the old one end`)
  return bytes
}
