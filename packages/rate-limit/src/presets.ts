import type { LimitRule } from './options.js'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

/**
 * Rules for what most services have. Named in place of a rule, `rules: { login: 'login' }`, or changed: `{ ...presets.login, limit: 3 }`.
 */
export const presets: Readonly<Record<PresetName, LimitRule>> = Object.freeze({
  /** Each caller 60 a minute; operators 120, administrators 300. */
  default: Object.freeze({
    limit: Object.freeze({ default: 60, operator: 120, admin: 300 }),
    windowMs: MINUTE_MS,
    by: 'principal'
  }),
  /** Roles as tiers, a minute: 60, `pro` 600, `enterprise` 6000. No more than a tenth of it in a second. */
  tiers: Object.freeze({
    limit: Object.freeze({ default: 60, pro: 600, enterprise: 6000 }),
    windowMs: MINUTE_MS,
    by: 'principal',
    burst: Object.freeze({ limit: Object.freeze({ default: 6, pro: 60, enterprise: 600 }), windowMs: 1000 })
  }),
  /** Five in five minutes for an account from one address: nobody can lock out its owner, who is elsewhere. */
  login: Object.freeze({ limit: 5, windowMs: 5 * MINUTE_MS, by: 'account+address', onFailure: 'local' }),
  /** Three new accounts an hour from one address. */
  register: Object.freeze({ limit: 3, windowMs: HOUR_MS, by: 'address', onFailure: 'local' }),
  /** Ten uploads an hour for each caller. */
  upload: Object.freeze({ limit: 10, windowMs: HOUR_MS, by: 'principal' }),
  /** A hundred searches in five minutes for each caller. */
  search: Object.freeze({ limit: 100, windowMs: 5 * MINUTE_MS, by: 'principal' })
})

export type PresetName = 'default' | 'tiers' | 'login' | 'register' | 'upload' | 'search'
