// The subpath `@marty/auth/sessions`: the store of sessions without Fastify.
export {
  createSessionStore, type IssuedSession, type SessionDetails, type SessionInfo, type Sessions, type SessionStore
} from './sessions.js'
export type { SessionCookie, SessionCookieOptions } from './cookie.js'
export type { SessionOptions } from './options.js'
export type { SessionOwner, SessionRecord } from './records.js'
export type { AuthStore, RedisAuthStore } from '../store-options.js'
export {
  AuthCapacityExceeded, AuthOptionInvalid, AuthStoreUnavailable, CredentialRequestInvalid
} from '../errors.js'
