/** The folder cannot be audited. */
export class AuditError extends Error {
  readonly code: 'MARTY_AUDITOR_FOLDER_UNREADABLE' | 'MARTY_AUDITOR_NOTHING_TO_AUDIT'

  constructor (code: AuditError['code'], message: string) {
    super(message)
    this.name = 'AuditError'
    this.code = code
  }
}
