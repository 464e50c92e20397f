import { checkOptions, type OptionTable } from '@marty/core'
import { SCOPE } from '../option-scope.js'

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

export interface CheckedMtlsOptions {
  readonly allow: Readonly<Record<string, Required<MtlsService>>>
}

const NAMES = { kind: 'list', items: { kind: 'string' } } as const

export const MTLS_OPTIONS: OptionTable<MtlsOptions, CheckedMtlsOptions> = {
  allow: {
    kind: 'record',
    min: 1,
    names: { pattern: { test: isSanUri }, expected: 'a URI such as spiffe://prod/ns/cams/sa/recorder' },
    values: {
      kind: 'object',
      options: {
        roles: { ...NAMES, about: 'The roles of the service.' },
        scopes: { ...NAMES, default: [], about: 'The scopes of the service.' }
      }
    },
    about: 'The accepted services, by the exact SAN URI of their certificate.'
  }
}

/** Returns the services by URI. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function servicesOf (options: MtlsOptions): ReadonlyMap<string, MtlsService> {
  return new Map(Object.entries(checkOptions(MTLS_OPTIONS, options, { ...SCOPE, at: 'mtls' }).allow))
}

/** Node prints a SAN with quotes, commas or backslashes in quotes, so such a URI would never match. */
function isSanUri (name: string): boolean {
  return /^[a-z][a-z0-9+.-]*:[!-~]+$/i.test(name) && !/["',\\]/.test(name)
}
