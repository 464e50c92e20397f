import type { Principal } from '@marty/core'
import type { ApiKeyRecord, ApiKeySecret } from './store.js'

/** Whether a key is neither revoked nor expired. */
export function isUsable (record: ApiKeyRecord): boolean {
  return record.revokedAt === null && record.expiresAt > Date.now()
}

/** Returns the secrets that are valid now; none for a key that is revoked or expired. */
export function activeSecrets (record: ApiKeyRecord): readonly ApiKeySecret[] {
  const now = Date.now()
  return isUsable(record) ? record.secrets.filter(secret => secret.expiresAt > now) : []
}

/** Returns when a secret ends; null when it is not active or the key does not exist. */
export function secretEndsAt (record: ApiKeyRecord | null, secretId: string): number | null {
  const secret = record === null ? undefined : activeSecrets(record).find(({ id }) => id === secretId)
  return secret === undefined ? null : Math.min(record!.expiresAt, secret.expiresAt)
}

/** Returns the principal of a caller that presented this secret. */
export function principalOf (record: ApiKeyRecord, secret: ApiKeySecret): Principal {
  return Object.freeze({
    id: record.keyId,
    kind: 'key',
    roles: record.roles,
    scopes: record.scopes,
    session: `${record.keyId}.${secret.id}`,
    claims: Object.freeze({ name: record.name }),
    authenticatedBy: 'apiKey',
    expiresAt: Math.min(record.expiresAt, secret.expiresAt)
  })
}

/** Returns the ids of a principal of `principalOf`; empty strings for any other. */
export function idsOf ({ session }: Principal): { readonly keyId: string, readonly secretId: string } {
  const [keyId = '', secretId = ''] = session?.split('.') ?? []
  return { keyId, secretId }
}
