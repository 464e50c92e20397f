import { createApiKeyFormat } from './format.js'
import { createApiKeyHasher } from './hash.js'
import { HashQueue } from './hash-queue.js'
import { LastUsedTimes } from './last-used.js'
import { createApiKeyManager, type ApiKeyManager } from './manage.js'
import { resolveApiKeyOptions, type ApiKeyOptions } from './options.js'
import { createApiKeyVerifier, type ApiKeyHooks, type ApiKeyVerifier } from './verify.js'

export interface ApiKeys extends ApiKeyManager, ApiKeyVerifier {
  /** Whether a token starts like a key of this service. */
  accepts (token: string): boolean
  /** Writes the pending last-used times. */
  close (): Promise<void>
}

/**
 * Creates, verifies and revokes API keys. Does not need Fastify.
 *
 * @throws `MARTY_AUTH_OPT_INVALID`
 */
export function createApiKeys (options: ApiKeyOptions, hooks: ApiKeyHooks = {}): ApiKeys {
  const { store, prefix, environment, peppers, hash, bcryptCost, hashing } = resolveApiKeyOptions(options)
  const format = createApiKeyFormat(prefix, environment)
  const hasher = createApiKeyHasher(peppers, hash, bcryptCost)
  const queue = new HashQueue(hashing)
  const lastUsed = new LastUsedTimes(store, hooks.onProblem)
  return {
    ...createApiKeyManager({ store, format, hasher, lastUsed }),
    ...createApiKeyVerifier({ ...hooks, store, format, hasher, queue, lastUsed }),
    accepts: token => token.startsWith(format.start),
    close: async () => { await lastUsed.close() }
  }
}
