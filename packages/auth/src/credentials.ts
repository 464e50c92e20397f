import type { IncomingMessage } from 'node:http'

/**
 * The credentials in the request headers. Two in one request are ambiguous: both become `''`, which
 * every authenticator refuses.
 */
export interface OfferedCredentials {
  /** From `Authorization: Bearer` (RFC 6750 section 2.1). */
  readonly bearer: string | null
  /** From `X-API-Key`. */
  readonly apiKey: string | null
}

const NOTHING: OfferedCredentials = Object.freeze({ bearer: null, apiKey: null })
const CONFLICT: OfferedCredentials = Object.freeze({ bearer: '', apiKey: '' })

export function credentialsOf ({ headers }: IncomingMessage): OfferedCredentials {
  const { authorization, 'x-api-key': apiKey } = headers
  if (apiKey !== undefined) {
    if (authorization !== undefined || typeof apiKey !== 'string') return CONFLICT
    return { bearer: null, apiKey }
  }
  // Other schemes, such as Basic, are ignored: the caller counts as not authenticated.
  if (authorization === undefined || !/^bearer(?:[ \t]|$)/i.test(authorization)) return NOTHING
  return { bearer: authorization.slice('bearer '.length), apiKey: null }
}
