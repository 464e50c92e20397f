import type { AuditOptions } from '@marty/audit'
import type { AuthOptions } from '@marty/auth'
import { checkOptions, type OptionScope, type OptionTable, type Refusals, type RouteRule } from '@marty/core'
import type { Environment, HeadersOptions } from '@marty/headers'
import type { MetricsOptions } from '@marty/metrics'
import type { RateLimitOptions } from '@marty/rate-limit'
import type { RbacOptions } from '@marty/rbac'
import { SecurityOptionInvalid } from './errors.js'

/**
 * Options of every part. To disable a part, set it to `false`; every start then logs a warning. No part that protects
 * is optional.
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
  /** Prometheus metrics of all parts. @default false */
  readonly metrics?: MetricsOptions | false
  /**
   * Rules for routes that declare none, such as those of third-party plugins:
   * `[{ url: '/docs/*', permission: 'docs:read' }]`. A route's own rule takes precedence.
   * @default none
   */
  readonly rules?: readonly RouteRule[]
  /**
   * How refusals over HTTP are answered. `fast` skips Fastify's error path, which doubles the cost of a response.
   * `fastify` uses the error path, so that `onError` hooks (Sentry, OpenTelemetry) see each refusal. If the application
   * sets its own error handler, refusals always take the error path.
   * @default 'fast'
   */
  readonly refusals?: Refusals
}

export type Part = Exclude<keyof SecurityOptions, 'environment' | 'metrics' | 'rules' | 'refusals'>

export const PARTS: readonly Part[] = ['headers', 'limits', 'auth', 'rbac', 'audit']

type ResolvedOptions = Readonly<Required<SecurityOptions>>

// The plugin of each part checks the options inside it.
const PART = {
  kind: 'custom',
  or: [false],
  expected: 'an object with the options of this part',
  accepts: (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value)
} as const

export const OPTIONS: OptionTable<SecurityOptions, ResolvedOptions> = {
  // Required, because a wrong guess could widen access.
  environment: {
    kind: 'string',
    expected: 'the name of the environment, such as "production"',
    about: 'Where the service runs: `development`, `testing`, `staging` or `production`. For headers and rbac.'
  },
  auth: { ...PART, about: 'Authentication: who is calling? Options of `@marty/auth`.' },
  rbac: {
    ...PART,
    about: 'Authorization: may this caller do this? Options of `@marty/rbac`. Set its `environment` if the policy uses ' +
      'another name for it.'
  },
  limits: { ...PART, about: 'Rate limits: how often? Options of `@marty/rate-limit`.' },
  headers: { ...PART, about: 'Security headers; `{}` for the strict defaults. Options of `@marty/headers`.' },
  audit: { ...PART, about: 'Audit log: what happened? Options of `@marty/audit`.' },
  metrics: {
    ...PART,
    default: false,
    about: 'Prometheus metrics of all parts. Options of `@marty/metrics`.'
  },
  rules: {
    kind: 'list',
    items: { kind: 'custom', expected: 'a rule with a url', accepts: value => typeof value === 'object' && value !== null },
    default: [],
    about: 'Rules for routes that declare none; see [below](#routes-of-third-party-plugins).'
  },
  refusals: {
    kind: 'choice',
    choices: ['fast', 'fastify'],
    default: 'fast',
    about: 'Whether `onError` hooks see refusals; see [below](#errors-and-what-is-not-found).'
  }
}

export const SCOPE: OptionScope = {
  subject: 'security', refuse: message => new SecurityOptionInvalid(message), isPlugin: true
}

/** Throws `MARTY_SECURITY_OPT_INVALID` for unknown, missing and invalid options. */
export function resolveOptions (given: SecurityOptions): ResolvedOptions {
  return checkOptions(OPTIONS, given, SCOPE)
}
