import type { AuditOptions } from '@marty/audit'
import type { AuthOptions } from '@marty/auth'
import { closest, type Refusals } from '@marty/core'
import type { Environment, HeadersOptions } from '@marty/headers'
import type { RateLimitOptions } from '@marty/rate-limit'
import type { RbacOptions } from '@marty/rbac'
import { SecurityOptionInvalid } from './errors.js'

/**
 * Options of every part. To disable a part, set it to `false`; every start then logs a warning. No part is optional.
 */
export interface SecurityOptions {
  /** Where the service runs. It determines the headers, and which environment's rules of the policy apply. */
  readonly environment: Environment
  /** Authentication: who is calling? With `false`, no credential is ever accepted. */
  readonly auth: AuthOptions | false
  /** Authorization: may this caller do this? With `false`, a rule that names a permission or roles stops the start. */
  readonly rbac: (Omit<RbacOptions, 'environment'> & {
    /** The name of the environment in the policy, if it differs. @default `environment` */
    readonly environment?: string
  }) | false
  /** Rate limits: how often? With `false`, a rule that names limits stops the start. */
  readonly limits: RateLimitOptions | false
  /** Security headers; `{}` for the strict defaults. */
  readonly headers: Omit<HeadersOptions, 'environment'> | false
  /** Audit log: what happened? With `false`, nothing is recorded. */
  readonly audit: AuditOptions | false
  /**
   * How refusals over HTTP are answered. `fast` skips Fastify's error path, which doubles the cost of a response.
   * `fastify` uses the error path, so that `onError` hooks (Sentry, OpenTelemetry) see each refusal. If the application
   * sets its own error handler, refusals always take the error path.
   * @default 'fast'
   */
  readonly refusals?: Refusals
}

export type Part = Exclude<keyof SecurityOptions, 'environment' | 'refusals'>

export const PARTS: readonly Part[] = ['headers', 'limits', 'auth', 'rbac', 'audit']
const FIELDS: readonly string[] = ['environment', 'refusals', ...PARTS]
const REFUSALS: readonly unknown[] = [undefined, 'fast', 'fastify']

/** Refuses unknown options and missing parts. The plugin of each part checks the options inside it. */
export function verifyOptions (options: SecurityOptions): void {
  for (const field of Object.keys(options)) {
    // Fastify passes its own register options to plugins.
    if (FIELDS.includes(field) || ['prefix', 'logLevel', 'logSerializers'].includes(field)) continue
    const near = closest(field, FIELDS)
    throw new SecurityOptionInvalid(
      `security has no option "${field}"; ${near === null ? `it has ${FIELDS.join(', ')}` : `did you mean "${near}"?`}`
    )
  }
  if (typeof options.environment !== 'string') {
    throw new SecurityOptionInvalid(
      'security option "environment" is required, such as "production": a guess could widen access'
    )
  }
  if (!REFUSALS.includes(options.refusals)) {
    throw new SecurityOptionInvalid(
      `security option "refusals" must be "fast" or "fastify", not ${JSON.stringify(options.refusals)}`
    )
  }
  for (const part of PARTS) {
    const value: unknown = options[part]
    if (value === false || (typeof value === 'object' && value !== null)) continue
    throw new SecurityOptionInvalid(
      `security option "${part}" is required: give its options, or false to go without it`
    )
  }
}
