import { crc32 } from 'node:zlib'
import { base62OfUint32, randomBase62 } from './base62.js'

/**
 * The format `<prefix>_<environment>_<key id>_<secret>_<checksum>`. Secret scanners can find it, and
 * mistyped keys are refused without reading the store.
 */
export interface ApiKeyFormat {
  /** The start of every key of this service and environment. */
  readonly start: string
  /** Returns the parts of a well-formed key; null for any other string. Does not read any store. */
  parse (token: string): { readonly keyId: string, readonly secret: string } | null
  generate (keyId?: string): { readonly token: string, readonly keyId: string, readonly secret: string }
}

const KEY_ID_CHARS = 12
/** 256 bits cannot be guessed, so a slow hash adds no protection in practice. */
const SECRET_CHARS = 43
const CHECKSUM_CHARS = 6

export const KEY_ID: RegExp = /^[0-9A-Za-z]{12}$/

export function createApiKeyFormat (prefix: string, environment: string): ApiKeyFormat {
  const start = `${prefix}_${environment}_`
  const length = start.length + KEY_ID_CHARS + 1 + SECRET_CHARS + 1 + CHECKSUM_CHARS
  const form = new RegExp(
    `^${start}([0-9A-Za-z]{${KEY_ID_CHARS}})_([0-9A-Za-z]{${SECRET_CHARS}})_[0-9A-Za-z]{${CHECKSUM_CHARS}}$`
  )
  return {
    start,
    parse (token) {
      if (token.length !== length) return null
      const parts = form.exec(token)
      if (parts === null) return null
      const body = token.slice(0, -CHECKSUM_CHARS - 1)
      if (!token.endsWith(checksum(body))) return null
      return { keyId: parts[1]!, secret: parts[2]! }
    },
    generate (keyId = randomBase62(KEY_ID_CHARS)) {
      const secret = randomBase62(SECRET_CHARS)
      const body = `${start}${keyId}_${secret}`
      return { token: `${body}_${checksum(body)}`, keyId, secret }
    }
  }
}

function checksum (body: string): string {
  return base62OfUint32(crc32(body))
}
