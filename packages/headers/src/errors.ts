import { defineError, type MartyErrorConstructor } from '@marty/core'

export const HeadersOptionInvalid: MartyErrorConstructor<'MARTY_HEADERS_OPT_INVALID'> = defineError({
  name: 'HeadersOptionInvalid',
  code: 'MARTY_HEADERS_OPT_INVALID',
  statusCode: 500,
  message: 'An option of the headers plugin is not valid'
})
