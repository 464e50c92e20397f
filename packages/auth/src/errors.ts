import { defineError, type MartyErrorConstructor } from '@marty/core'

/**
 * Stops the start: an option is missing, unknown or invalid. The message names the field, and never
 * contains its value if that is secret.
 */
export const AuthOptionInvalid: MartyErrorConstructor<'MARTY_AUTH_OPT_INVALID'> = defineError({
  name: 'AuthOptionInvalid',
  code: 'MARTY_AUTH_OPT_INVALID',
  statusCode: 500,
  message: 'An option of the auth plugin is not valid'
})

/** Invalid arguments of `tokens.issue`, `apiKeys.create`, `apiKeys.rotate` or `sessions.create`. */
export const CredentialRequestInvalid: MartyErrorConstructor<'MARTY_AUTH_REQUEST_INVALID'> = defineError({
  name: 'CredentialRequestInvalid',
  code: 'MARTY_AUTH_REQUEST_INVALID',
  statusCode: 400,
  message: 'A credential cannot be issued as requested'
})

/** No API key has this id. */
export const ApiKeyNotFound: MartyErrorConstructor<'MARTY_AUTH_KEY_NOT_FOUND'> = defineError({
  name: 'ApiKeyNotFound',
  code: 'MARTY_AUTH_KEY_NOT_FOUND',
  statusCode: 404,
  message: 'There is no API key with this id'
})

/** Another writer changed the key between reading and writing. */
export const ApiKeyConflict: MartyErrorConstructor<'MARTY_AUTH_KEY_CONFLICT'> = defineError({
  name: 'ApiKeyConflict',
  code: 'MARTY_AUTH_KEY_CONFLICT',
  statusCode: 409,
  message: 'The API key was changed meanwhile; try again'
})

/**
 * The key store cannot be read, or a record in it is damaged. Damaged keys are refused until the store
 * is repaired.
 */
export const ApiKeyStoreInvalid: MartyErrorConstructor<'MARTY_AUTH_KEY_STORE_INVALID'> = defineError({
  name: 'ApiKeyStoreInvalid',
  code: 'MARTY_AUTH_KEY_STORE_INVALID',
  statusCode: 503,
  message: 'The store of API keys cannot be used'
})

/** Too many API keys are waiting to be verified. The error does not reveal whether the key is valid. */
export const AuthBusy: MartyErrorConstructor<'MARTY_AUTH_BUSY'> = defineError({
  name: 'AuthBusy',
  code: 'MARTY_AUTH_BUSY',
  statusCode: 503,
  message: 'Too many credentials are being verified; try again shortly'
})

/** Memory is full, and dropping an older entry would be unsafe. */
export const AuthCapacityExceeded: MartyErrorConstructor<'MARTY_AUTH_CAPACITY_EXCEEDED'> = defineError({
  name: 'AuthCapacityExceeded',
  code: 'MARTY_AUTH_CAPACITY_EXCEEDED',
  statusCode: 503,
  message: 'No more sessions, refresh tokens or revocations can be stored'
})

/**
 * The store of revocations, refresh tokens or sessions does not respond. Requests are refused, because
 * the credential cannot be checked.
 */
export const AuthStoreUnavailable: MartyErrorConstructor<'MARTY_AUTH_STORE_UNAVAILABLE'> = defineError({
  name: 'AuthStoreUnavailable',
  code: 'MARTY_AUTH_STORE_UNAVAILABLE',
  statusCode: 503,
  message: 'The store of credentials does not respond; try again shortly'
})

/**
 * A parameter sent to one of the plugin's routes is missing or malformed. The message names the
 * parameter.
 */
export const AuthRequestMalformed: MartyErrorConstructor<'MARTY_AUTH_BODY_INVALID'> = defineError({
  name: 'AuthRequestMalformed',
  code: 'MARTY_AUTH_BODY_INVALID',
  statusCode: 400,
  message: 'The request is not complete'
})

/** The service does not support this `grant_type`. */
export const AuthGrantUnsupported: MartyErrorConstructor<'MARTY_AUTH_GRANT_UNSUPPORTED'> = defineError({
  name: 'AuthGrantUnsupported',
  code: 'MARTY_AUTH_GRANT_UNSUPPORTED',
  statusCode: 400,
  message: 'This service does not support the grant_type'
})

/** The request asks for more scopes than the credential has. */
export const AuthScopeInvalid: MartyErrorConstructor<'MARTY_AUTH_SCOPE_INVALID'> = defineError({
  name: 'AuthScopeInvalid',
  code: 'MARTY_AUTH_SCOPE_INVALID',
  statusCode: 400,
  message: 'The credential does not have all requested scopes'
})

/**
 * Too many wrong secrets for this account from this address. `data.retry_after_ms` is the time to wait
 * before the next attempt.
 */
export const AccountLocked: MartyErrorConstructor<'MARTY_AUTH_LOCKED'> = defineError({
  name: 'AccountLocked',
  code: 'MARTY_AUTH_LOCKED',
  statusCode: 429,
  message: 'Too many failed attempts; wait before the next one'
})

/**
 * A page of another site could have caused the request, which carries the session cookie or asks for
 * tokens.
 */
export const CsrfInvalid: MartyErrorConstructor<'MARTY_AUTH_CSRF_INVALID'> = defineError({
  name: 'CsrfInvalid',
  code: 'MARTY_AUTH_CSRF_INVALID',
  statusCode: 403,
  message: 'A page of another site could have caused this request'
})

/** The signing key file cannot be read, is damaged, can be read by other users, or contains no active key. */
export const SigningKeysInvalid: MartyErrorConstructor<'MARTY_AUTH_SIGNING_KEYS_INVALID'> = defineError({
  name: 'SigningKeysInvalid',
  code: 'MARTY_AUTH_SIGNING_KEYS_INVALID',
  statusCode: 500,
  message: 'The signing keys cannot be used'
})

/** The keys of another issuer are not available, so its tokens can be neither accepted nor refused. */
export const IssuerUnavailable: MartyErrorConstructor<'MARTY_AUTH_ISSUER_UNAVAILABLE'> = defineError({
  name: 'IssuerUnavailable',
  code: 'MARTY_AUTH_ISSUER_UNAVAILABLE',
  statusCode: 503,
  message: 'The keys of the issuer of this token cannot be fetched; try again shortly'
})
