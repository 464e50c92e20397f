import { defineError, type MartyErrorConstructor } from '@marty/core'

/** An option is missing, unknown or invalid. The application does not start. */
export const AuditOptionInvalid: MartyErrorConstructor<'MARTY_AUDIT_OPT_INVALID'> = defineError({
  name: 'AuditOptionInvalid',
  code: 'MARTY_AUDIT_OPT_INVALID',
  statusCode: 500,
  message: 'An option of the audit plugin is not valid'
})

/**
 * The audit file does not end like an audit log, so writing to it would damage it
 * further. The application does not start.
 */
export const AuditFileInvalid: MartyErrorConstructor<'MARTY_AUDIT_FILE_INVALID'> = defineError({
  name: 'AuditFileInvalid',
  code: 'MARTY_AUDIT_FILE_INVALID',
  statusCode: 500,
  message: 'The audit file cannot be continued'
})

/** An event could not be written; operations marked `audit: 'required'` are refused meanwhile. */
export const AuditUnavailable: MartyErrorConstructor<'MARTY_AUDIT_UNAVAILABLE'> = defineError({
  name: 'AuditUnavailable',
  code: 'MARTY_AUDIT_UNAVAILABLE',
  statusCode: 503,
  message: 'The audit log cannot be written, and this operation may not go unrecorded'
})

/**
 * Another process has written to the Redis stream of this one. This process stops
 * writing, so that there is only one chain.
 */
export const AuditStreamTaken: MartyErrorConstructor<'MARTY_AUDIT_STREAM_TAKEN'> = defineError({
  name: 'AuditStreamTaken',
  code: 'MARTY_AUDIT_STREAM_TAKEN',
  statusCode: 503,
  message: 'Another process writes to the stream of this audit log'
})
