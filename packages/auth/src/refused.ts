import { CredentialInvalid, invalidCredential, type MartyError } from '@marty/core'

/** The one answer to every credential that is not good. The reason is for the log and the audit log, and never sent. */
export function refused (reason: string): MartyError {
  return new CredentialInvalid({ ...invalidCredential, reason })
}
