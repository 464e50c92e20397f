import type { Test } from 'tap'
import {
  createApiKeys,
  createMemoryApiKeyStore,
  type ApiKeyOptions,
  type ApiKeyRecord,
  type ApiKeyRequest,
  type ApiKeyStore
} from '@marty/auth'
import type { MartyError, Principal } from '@marty/core'
import { PEPPER } from '@marty/testing/tokens'

export const REFUSED = 'MARTY_CORE_CREDENTIAL_INVALID'
export const request: ApiKeyRequest = {
  name: 'recorder',
  roles: ['operator'],
  scopes: ['media'],
  expiresInSeconds: 3_600
}

export const keyOptions = (changes: Partial<ApiKeyOptions> = {}): ApiKeyOptions => ({
  store: createMemoryApiKeyStore(),
  prefix: 'cam',
  environment: 'test',
  pepper: PEPPER,
  bcryptCost: 8,
  ...changes
})

export async function codeOf (work: () => Principal | Promise<Principal>): Promise<string> {
  try {
    await work()
    return 'none'
  } catch (error) {
    return (error as MartyError).code
  }
}

/** Keys with right checksums for a key id that exists, and with secrets that are not its own. */
export async function wrongKeys (store: ApiKeyStore, keyId: string, count: number): Promise<string[]> {
  const elsewhere = createMemoryApiKeyStore()
  await elsewhere.put(await store.get(keyId) as ApiKeyRecord, null)
  const maker = createApiKeys(keyOptions({ store: elsewhere, hash: 'hmac-sha256' }))
  const made: string[] = []
  while (made.length < count) made.push((await maker.rotate(keyId)).key)
  return made
}

/** Lets the wall clock jump ahead; timers and the clocks of lockouts go on as they are. */
export function timeMachine (t: Test): (ms: number) => void {
  const { now } = Date
  let ahead = 0
  Date.now = () => now() + ahead
  t.teardown(() => { Date.now = now })
  return ms => { ahead += ms }
}
