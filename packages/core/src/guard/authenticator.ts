import type { IncomingMessage } from 'node:http'
import type { AuthenticationMethod, Principal } from '../principal.js'

/** What an authenticator knows about the caller, besides the credential. */
export interface AuthenticationContext {
  readonly address: string | null
  readonly requestId: string
  /** The HTTP request that carried the credential, with its connection. Absent for a bare token. */
  readonly request?: IncomingMessage | null
}

/** Turns one kind of credential into a principal. The auth package adds these to the guard. */
export interface Authenticator {
  readonly method: AuthenticationMethod
  /**
   * Accept the credential only for operations whose rule names the method. For credentials with a single purpose, such
   * as refresh tokens.
   * @default false
   */
  readonly optIn?: boolean
  /**
   * Whether its credentials cannot be guessed: they are signed, or hold at least 128 random bits. Such a credential is
   * verified even for an address that has used up its failure limit, and a valid one is accepted. Leave it out for
   * passwords and PINs: from such an address they are refused without being checked.
   * @default false
   */
  readonly unguessable?: boolean
  /** Returns the credential of this kind in the request, or null. Must not throw. */
  find (request: IncomingMessage): string | null
  /** Whether a bare token (JSON-RPC `authenticate`) is of this kind, decided by its format alone. */
  accepts (token: string): boolean
  /** Verifies the credential. Throws `MARTY_CORE_CREDENTIAL_INVALID`, whatever is wrong with it. */
  authenticate (token: string, context: AuthenticationContext): Principal | Promise<Principal>
  /**
   * Whether a principal that authenticated earlier, on a connection that is still open, is still valid. A `peek` does
   * not count as a use of the credential: it must not postpone an idle timeout.
   */
  isAlive? (principal: Principal, peek: boolean): boolean | Promise<boolean>
}
