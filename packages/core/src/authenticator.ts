import type { IncomingMessage } from 'node:http'
import type { AuthenticationMethod, Principal } from './principal.js'

/** What an authenticator knows of the caller besides the credential. */
export interface AuthenticationContext {
  readonly address: string | null
  readonly requestId: string
  /** The HTTP request that brought the credential, with its connection; none for a bare token. */
  readonly request?: IncomingMessage | null
}

/** Turns one kind of credential into a principal. The auth package adds these to the guard. */
export interface Authenticator {
  readonly method: AuthenticationMethod
  /** Used only by operations whose rule names the method: a credential that serves one purpose, such as a refresh token. @default false */
  readonly explicit?: boolean
  /**
   * Whether its credentials are beyond guessing: signed, or at least 128 random bits. Then a right one is let in from an
   * address whose failures are used up, because it is verified first. Leave it out for passwords and PINs: they are not
   * looked at there.
   * @default false
   */
  readonly unguessable?: boolean
  /** The credential of this kind that the request brings, or null. Must not throw. */
  find (request: IncomingMessage): string | null
  /** Whether a bare token (JSON-RPC `authenticate`) is of this kind, judged by its form alone. */
  accepts (token: string): boolean
  /** Throws `MARTY_CORE_CREDENTIAL_INVALID` whatever was wrong with the credential. */
  authenticate (token: string, context: AuthenticationContext): Principal | Promise<Principal>
  /**
   * Whether a principal authenticated earlier, on a connection that lives on, is still valid. A `peek` is not a use of
   * the credential: it must not keep alive what ends by disuse.
   */
  isAlive? (principal: Principal, peek: boolean): boolean | Promise<boolean>
}
