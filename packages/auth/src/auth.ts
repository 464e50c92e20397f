import type { ApiKeys } from './api-keys/api-keys.js'
import type { Lockout } from './lockout/lockout.js'
import type { SessionCookie } from './sessions/cookie.js'
import type { Sessions } from './sessions/sessions.js'
import type { Tokens } from './tokens/tokens.js'

/** The services of an application: `fastify.auth`. */
export interface Auth {
  /** Issues and revokes access tokens. */
  readonly tokens: Tokens
  /** API keys; null when the plugin was registered without them. */
  readonly apiKeys: ApiKeys | null
  /** Sessions; null when they are turned off. */
  readonly sessions: Sessions | null
  /** Reads and writes the session cookie; null when sessions are turned off. */
  readonly sessionCookie: SessionCookie | null
  /** Limits guessing of secrets; null when it is turned off. */
  readonly lockout: Lockout | null
}
