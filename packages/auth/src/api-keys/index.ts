// The subpath `@marty/auth/api-keys`. It needs no Fastify, and loads bcrypt only for bcrypt hashes.
export { openFileApiKeyStore } from './file-store.js'
export { createMemoryApiKeyStore } from './memory-store.js'
export { createRedisApiKeyStore, type RedisApiKeyStoreOptions } from './redis-store.js'
export { createApiKeys, type ApiKeys } from './api-keys.js'
export type { ApiKeyInfo, IssuedApiKey } from './manage.js'
export type { ApiKeyOptions } from './options.js'
export type { ApiKeyRequest } from './request.js'
export type { ApiKeyHooks, CallerContext } from './verify.js'
export type { ApiKeyRecord, ApiKeySecret, ApiKeyStore } from './store.js'
export type { HashQueueLimits } from './hash-queue.js'
export {
  AccountLocked, ApiKeyConflict, ApiKeyNotFound, ApiKeyStoreInvalid, AuthBusy, AuthOptionInvalid, AuthStoreUnavailable,
  CredentialRequestInvalid
} from '../errors.js'
