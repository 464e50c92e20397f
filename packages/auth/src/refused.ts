import { CredentialInvalid, invalidCredential, type MartyError } from '@marty/core'

/** The one answer to every credential that is not good. */
export function refused (): MartyError {
  return new CredentialInvalid(invalidCredential)
}
