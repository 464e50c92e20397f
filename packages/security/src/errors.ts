import { defineError, type MartyErrorConstructor } from '@marty/core'

export const SecurityOptionInvalid: MartyErrorConstructor<'MARTY_SECURITY_OPT_INVALID'> = defineError({
  name: 'SecurityOptionInvalid',
  code: 'MARTY_SECURITY_OPT_INVALID',
  statusCode: 500,
  message: 'An option of the security plugin is not valid'
})

/** Stops the start: the guard already exists and is not strict. What was registered before cannot be guarded. */
export const GuardNotStrict: MartyErrorConstructor<'MARTY_SECURITY_GUARD_NOT_STRICT'> = defineError({
  name: 'GuardNotStrict',
  code: 'MARTY_SECURITY_GUARD_NOT_STRICT',
  statusCode: 500,
  message: 'Another plugin made the guard before @marty/security could make it strict: register @marty/security first'
})
