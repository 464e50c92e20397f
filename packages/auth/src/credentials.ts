import type { IncomingMessage } from 'node:http'

/** What the headers offer as a credential. Two at once are none: `''` is refused by every authenticator. */
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
  // Other schemes (Basic) are not ours to judge: the caller is simply not authenticated.
  if (authorization === undefined || !/^bearer(?:[ \t]|$)/i.test(authorization)) return NOTHING
  return { bearer: authorization.slice('bearer '.length), apiKey: null }
}
