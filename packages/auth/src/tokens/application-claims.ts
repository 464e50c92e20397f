import { CredentialRequestInvalid } from '../errors.js'

/**
 * Claim names with a meaning for readers of tokens: registered claims (RFC 7519 section 4.1, RFC 7800,
 * RFC 8693, RFC 9068, OpenID Connect Core section 2), header members, and the claims that this service
 * reads.
 */
const RESERVED: ReadonlySet<string> = new Set([
  'iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'typ', 'alg', 'kid', 'cty', 'crit', 'cnf', 'act', 'may_act', 'sid',
  'nonce', 'azp', 'acr', 'amr', 'auth_time', 'at_hash', 'events', 'user_id', 'role', 'roles', 'groups',
  'entitlements', 'scope', 'scopes', 'scp', 'permissions', 'kind', 'client_id', 'source_jti', 'tenant'
])
const MAX_BYTES = 4_096
const MAX_DEPTH = 6

/**
 * Copies an application's own claims. Throws `MARTY_AUTH_REQUEST_INVALID` naming a member that cannot
 * be in a token.
 */
export function copyClaims (claims: unknown): Readonly<Record<string, unknown>> {
  if (claims === undefined) return {}
  if (!isPlainObject(claims)) throw refuse('', 'must be an object of JSON values')
  for (const name of Object.keys(claims)) {
    if (RESERVED.has(name)) {
      throw refuse(
        name,
        `has a meaning of its own${name === 'tenant' ? '; give "tenant" beside "claims"' : ''}; choose another name`
      )
    }
  }
  const copy = copyValue(claims, '', MAX_DEPTH) as Readonly<Record<string, unknown>>
  const bytes = Buffer.byteLength(JSON.stringify(copy))
  if (bytes > MAX_BYTES) {
    throw refuse(
      '',
      `must have at most ${MAX_BYTES} bytes as JSON and has ${bytes}; keep the rest where the service can look it up`
    )
  }
  return copy
}

/**
 * Copies member by member, so that the signed value is the checked one: a getter, `toJSON` or proxy
 * could return something else the second time.
 */
function copyValue (value: unknown, path: string, depth: number): unknown {
  if (
    value === null ||
    typeof value === 'string' ||
    typeof value === 'boolean' ||
    (typeof value === 'number' && Number.isFinite(value))
  ) {
    return value
  }
  const isList = Array.isArray(value)
  if (!isList && !isPlainObject(value)) {
    throw refuse(path, 'must be JSON: a string, finite number, boolean, null, list or plain object')
  }
  if (depth === 0) throw refuse(path, `is nested more than ${MAX_DEPTH} deep, or in itself`)
  if (isList && value.length > MAX_BYTES) throw refuse(path, 'is too long')
  const names = isList ? Array.from({ length: value.length }, (_, index) => String(index)) : namesOf(value, path)
  const copied = names.map(name => {
    const member = path === '' ? name : `${path}.${name}`
    const property = Object.getOwnPropertyDescriptor(value, name)
    if (property === undefined || !('value' in property)) {
      throw refuse(member, 'must be a value, not a getter or a gap in a list')
    }
    return [name, copyValue(property.value, member, depth - 1)] as const
  })
  return isList ? copied.map(([, member]) => member) : Object.fromEntries(copied)
}

function namesOf (value: object, path: string): string[] {
  const names = Reflect.ownKeys(value)
  // Also refused when a token is read: these names reach an object's prototype.
  const wrong = names.find(
    name =>
      typeof name === 'symbol' || name === '__proto__' || name === 'constructor' || name === '' || name.length > 128
  )
  if (wrong !== undefined) {
    throw refuse(path, `has a member named ${String(wrong).slice(0, 40) || '""'}, which no token may have`)
  }
  return names as string[]
}

function isPlainObject (value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

function refuse (path: string, what: string): Error {
  return new CredentialRequestInvalid(`"claims${path === '' ? '' : `.${path.slice(0, 100)}`}" ${what}`)
}
