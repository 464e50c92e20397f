import { randomBytes } from 'node:crypto'
// Not by the package's name: a process that is killed within milliseconds should not load everything first.
import { openFileApiKeyStore } from '../dist/api-key-file-store.js'

// Adds keys to a file, one after another, and tells the id of each once it is kept.
const [file = '', count = ''] = process.argv.slice(2)
const store = openFileApiKeyStore(file)
for (let i = 0; i < Number(count); i++) {
  const keyId = randomBytes(6).toString('hex')
  const added = await store.put({ keyId, name: 'a key', roles: [], scopes: [], createdAt: 1, expiresAt: 2, revokedAt: null, version: 1, secrets: [] }, null)
  if (added) await new Promise(resolve => process.send?.(keyId, resolve))
}
process.disconnect()
