import { randomBytes } from 'node:crypto'
// Not by the package's name: a process that is killed within milliseconds should not load everything first.
import { openFileApiKeyStore } from '../dist/api-keys/file-store.js'

// Adds, rotates and revokes keys in a file, one after another, and tells each key's id and version once it is kept.
const [file = '', count = ''] = process.argv.slice(2)
const store = openFileApiKeyStore(file)
const secret = (id: string) =>
  ({ id, algorithm: 'hmac-sha256', hash: '', pepperId: '', createdAt: 1, expiresAt: 2 }) as const
for (let i = 0; i < Number(count); i++) {
  const keyId = randomBytes(6).toString('hex')
  const added = {
    keyId,
    name: 'a key',
    roles: [],
    scopes: [],
    createdAt: 1,
    expiresAt: 2,
    revokedAt: null,
    version: 1,
    secrets: [secret('a')]
  }
  const rotated = { ...added, version: 2, secrets: [secret('b'), secret('a')] }
  const revoked = { ...rotated, version: 3, revokedAt: 3 }
  for (const record of [added, rotated, revoked]) {
    const isKept = await store.put(record, record.version === 1 ? null : record.version - 1)
    if (isKept) await new Promise(resolve => process.send?.([keyId, record.version], resolve))
  }
}
process.disconnect()
