import type { AuditOptions } from '@marty/audit'
import type { AuthOptions } from '@marty/auth'
import { closest, type Refusals } from '@marty/core'
import type { Environment, HeadersOptions } from '@marty/headers'
import type { RateLimitOptions } from '@marty/rate-limit'
import type { RbacOptions } from '@marty/rbac'
import { SecurityOptionInvalid } from './errors.js'

/** Options of every part. A part is left out by `false`, never by leaving out its options; the start logs a warning then. */
export interface SecurityOptions {
  /** Where the service runs: decides on headers, and on the policy's rules for environments. */
  readonly environment: Environment
  /** Who is calling. With `false` no credential is ever accepted. */
  readonly auth: AuthOptions | false
  /** May they. With `false`, rules that name a permission or roles do not start. */
  readonly rbac: (Omit<RbacOptions, 'environment'> & {
    /** The environment by its name in the policy. @default `environment` */
    readonly environment?: string
  }) | false
  /** How often. With `false`, rules that name limits do not start. */
  readonly limits: RateLimitOptions | false
  /** What the browser is told; `{}` for the strict defaults. */
  readonly headers: Omit<HeadersOptions, 'environment'> | false
  /** What happened. With `false` nothing is written down. */
  readonly audit: AuditOptions | false
  /**
   * How refusals over HTTP are answered. `fast` answers them without Fastify's error path, which doubles the cost of a
   * response. `fastify` sends them through it, so that `onError` hooks (Sentry, OpenTelemetry) see each. An application
   * with an error handler of its own has that in both.
   * @default 'fast'
   */
  readonly refusals?: Refusals
}

export type Part = Exclude<keyof SecurityOptions, 'environment' | 'refusals'>

export const PARTS: readonly Part[] = ['headers', 'limits', 'auth', 'rbac', 'audit']
const FIELDS: readonly string[] = ['environment', 'refusals', ...PARTS]
const REFUSALS: readonly unknown[] = [undefined, 'fast', 'fastify']

/** Refuses unknown options and parts that nobody decided about. What is inside each part is its own plugin's to judge. */
export function verifyOptions (options: SecurityOptions): void {
  for (const field of Object.keys(options)) {
    // Fastify passes its own register options along.
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
