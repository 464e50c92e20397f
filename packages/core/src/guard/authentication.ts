import type { IncomingMessage } from 'node:http'
import type { AuthenticationContext, Authenticator } from './authenticator.js'
import type { Call } from './call.js'
import { CredentialInvalid } from '../errors.js'
import type { Operation } from './operation.js'
import { effectivePrincipal, type AuthenticationMethod, type Principal } from '../principal.js'

/** The registered authenticators, and which of them is responsible for a credential. */
export class Authentication {
  readonly #authenticators: Authenticator[] = []

  add (authenticator: Authenticator): void {
    this.#authenticators.push(authenticator)
  }

  methods (): AuthenticationMethod[] {
    return this.#authenticators.map(({ method }) => method)
  }

  identify (
    request: IncomingMessage,
    context: AuthenticationContext,
    methods?: readonly AuthenticationMethod[]
  ): Principal | Promise<Principal> | null {
    for (const authenticator of this.#authenticators) {
      if (!isAccepted(authenticator, methods)) continue
      const token = authenticator.find(request)
      if (token !== null) return authenticator.authenticate(token, context)
    }
    return null
  }

  hasCredential (request: IncomingMessage): boolean {
    return this.#authenticators.some(authenticator => authenticator.find(request) !== null)
  }

  isGuessable ({ operation, request, token }: Call): boolean {
    const methods = methodsOf(operation)
    const responsible = this.#authenticators.find(authenticator => isAccepted(authenticator, methods) &&
      (token === null ? request !== null && authenticator.find(request) !== null : authenticator.accepts(token)))
    return responsible !== undefined && responsible.unguessable !== true
  }

  async authenticate (
    token: string,
    context: AuthenticationContext,
    methods?: readonly AuthenticationMethod[]
  ): Promise<Principal> {
    const responsible = this.#authenticators.find(authenticator => {
      return isAccepted(authenticator, methods) && authenticator.accepts(token)
    })
    if (responsible === undefined) throw new CredentialInvalid()
    return await responsible.authenticate(token, context)
  }

  isAlive (principal: Principal, peek = false): boolean | Promise<boolean> {
    if (effectivePrincipal(principal) !== principal) return false
    const responsible = this.#authenticators.find(({ method }) => method === principal.authenticatedBy)
    return responsible?.isAlive?.(principal, peek) ?? true
  }
}

/** The authentication methods that the operation's rule names; undefined when any method is accepted. */
export function methodsOf ({ rule }: Operation): readonly AuthenticationMethod[] | undefined {
  return Array.isArray(rule.authenticate) ? rule.authenticate : undefined
}

function isAccepted (
  { method, optIn = false }: Authenticator,
  methods: readonly AuthenticationMethod[] | undefined
): boolean {
  return methods === undefined ? !optIn : methods.includes(method)
}
