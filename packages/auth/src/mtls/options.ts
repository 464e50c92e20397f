import { AuthOptionInvalid } from '../errors.js'

/** The roles and scopes of a service that presents a client certificate. */
export interface MtlsService {
  readonly roles: readonly string[]
  /** @default [] */
  readonly scopes?: readonly string[]
}

export interface MtlsOptions {
  /**
   * The accepted services, by the exact SAN URI of their certificate, such as
   * `spiffe://prod/ns/cams/sa/recorder`.
   */
  readonly allow: Readonly<Record<string, MtlsService>>
}

/** Returns the services by URI. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function servicesOf (options: MtlsOptions): ReadonlyMap<string, MtlsService> {
  const { allow } = options ?? {}
  if (!isObject(allow) || Object.keys(allow).length === 0 || Object.keys(options).length !== 1) {
    throw new AuthOptionInvalid(
      'auth option "mtls" must be { allow: { [SAN URI]: { roles, scopes } } } with at least one URI'
    )
  }
  for (const [uri, service] of Object.entries<unknown>(allow)) {
    const field = `auth option "mtls.allow[${JSON.stringify(uri)}]"`
    // Node prints a SAN with these characters in quotes, so such a URI would never match.
    if (!/^[a-z][a-z0-9+.-]*:[!-~]+$/i.test(uri) || /["',\\]/.test(uri)) {
      throw new AuthOptionInvalid(`${field} is not a URI such as spiffe://prod/ns/cams/sa/recorder`)
    }
    if (!isObject(service) || Object.keys(service).some(name => name !== 'roles' && name !== 'scopes')) {
      throw new AuthOptionInvalid(`${field} must be { roles, scopes }`)
    }
    const { roles, scopes = [] } = service
    if (!isNames(roles) || !isNames(scopes)) {
      throw new AuthOptionInvalid(`${field} must have lists of names as roles and scopes`)
    }
  }
  return new Map(Object.entries(allow))
}

function isObject (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isNames (value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every(name => typeof name === 'string' && name !== '')
}
