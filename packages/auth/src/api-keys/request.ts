import { CredentialRequestInvalid } from '../errors.js'
import { readNetworks } from './networks.js'

export interface ApiKeyRequest {
  /** A name for people to read: 1 to 100 characters. */
  readonly name: string
  readonly roles: readonly string[]
  /** @default [] */
  readonly scopes?: readonly string[]
  /**
   * Networks from which the key may be used, such as `192.0.2.0/24` or `2001:db8::/32`.
   * @default [], any address
   */
  readonly cidrs?: readonly string[]
  /** Lifetime; every key expires. From 1 second to 365 days. Seconds. */
  readonly expiresInSeconds: number
}

export const DAY_SECONDS = 86_400
const MAX_NAMES = 32
const MAX_NETWORKS = 64

/** Throws `MARTY_AUTH_REQUEST_INVALID` naming the first invalid field. */
export function checkRequest ({ name, roles, scopes = [], cidrs = [], expiresInSeconds }: ApiKeyRequest): void {
  if (typeof name !== 'string' || name === '' || name.length > 100) {
    throw new CredentialRequestInvalid('"name" must be a string of 1 to 100 characters')
  }
  checkNames('roles', roles)
  checkNames('scopes', scopes)
  checkNetworks(cidrs)
  if (!Number.isSafeInteger(expiresInSeconds) || expiresInSeconds < 1 || expiresInSeconds > 365 * DAY_SECONDS) {
    throw new CredentialRequestInvalid('"expiresInSeconds" is required: an integer from 1 to 31536000 (365 days)')
  }
}

function checkNames (field: string, names: unknown): void {
  const isName = (name: unknown): boolean => typeof name === 'string' && name !== '' && name.length <= 256
  if (!Array.isArray(names) || names.length > MAX_NAMES || !names.every(isName)) {
    throw new CredentialRequestInvalid(
      `"${field}" must be a list of at most ${MAX_NAMES} names, each of 1 to 256 characters`
    )
  }
}

function checkNetworks (cidrs: unknown): void {
  if (!Array.isArray(cidrs) || cidrs.length > MAX_NETWORKS) {
    throw new CredentialRequestInvalid(`"cidrs" must be a list of at most ${MAX_NETWORKS} networks`)
  }
  for (const cidr of cidrs as unknown[]) {
    if (typeof cidr === 'string' && readNetworks([cidr]) !== null) continue
    throw new CredentialRequestInvalid(
      `"cidrs" contains "${String(cidr).slice(0, 60)}", which is not a network such as 192.0.2.0/24 or 2001:db8::/32`
    )
  }
}
